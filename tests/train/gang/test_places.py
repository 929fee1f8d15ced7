"""Checkpoints in a folder and behind addresses: the same of both, and a lost worker's training goes on from either."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path
from typing import NoReturn

import fsspec
import pytest
from distributed import Client

from mlflow_core.errors import ArtifactError, MachineError, TrainError
from mlflow_core.spec.recovery import Recovery
from mlflow_core.train.gang.checkpoints import Checkpoints
from mlflow_core.train.gang.gang import run_gang
from tests.train.gang.counting import Adder, Counting, Disaster, truth
from tests.train.shelved import Shelved, Shelving, names_at

FILES = {"model": bytes(range(256)) * 20, "optimiser": b""}


def test_what_was_written_is_read_the_last_two_are_kept_and_in_the_end_nothing_is_left(
    place: Path | str,
) -> None:
    kept = Checkpoints(place, "mine")
    assert kept.last() is None
    for at in (5, 10, 100, 15):
        kept.write(at, FILES, {"at": at})

    assert names_at(place) == [f"{at:012d}.checkpoint" for at in (15, 100)]
    last, older = kept.last(), kept.at(15)
    assert (last.at, last.facts, last.files) == (100, {"at": 100}, FILES)
    assert (older.at, older.files) == (15, FILES)
    assert kept.at(5) is None

    kept.clear()
    assert names_at(place) == []
    kept.clear()


def test_one_that_is_cut_or_changed_is_passed_over_for_the_one_before_and_named(place: Path | str) -> None:
    warned: list[str] = []
    kept = Checkpoints(place, "mine", warn=warned.append)
    for at in (5, 10):
        kept.write(at, FILES, {})
    store, path = fsspec.core.url_to_fs(str(place))
    newest = f"{path}/{10:012d}.checkpoint"
    whole = store.cat_file(newest)

    for damaged in (b"", whole[:7], whole[:100], whole[:-1], whole + b"x", whole[:-9] + b"?" + whole[-8:]):
        store.pipe_file(newest, damaged)
        assert kept.last().at == 5
        assert len(warned) == 1
        assert f"{10:012d}.checkpoint is damaged" in warned.pop()
    store.pipe_file(newest, whole)
    assert kept.last().at == 10
    assert warned == []


def test_those_of_another_training_are_refused_and_what_is_no_checkpoint_is_left_alone(
    place: Path | str,
) -> None:
    Checkpoints(place, "theirs").write(5, {}, {})
    store, path = fsspec.core.url_to_fs(str(place))
    store.pipe_file(f"{path}/run", b"a run's id")

    with pytest.raises(TrainError, match=r"of another training \(theirs\), not of this one \(mine\)"):
        Checkpoints(place, "mine").last()

    Checkpoints(place, "theirs").clear()
    assert names_at(place) == ["run"]


def test_an_address_of_this_machine_s_files_is_a_folder(tmp_path: Path) -> None:
    Checkpoints(f"file://{tmp_path}/kept", "mine").write(5, FILES, {})

    assert Checkpoints(tmp_path / "kept", "mine").last().files == FILES
    Checkpoints(f"{tmp_path}/kept", "mine").clear()
    assert list(tmp_path.iterdir()) == []


def test_they_can_be_sent_to_a_worker(place: Path | str) -> None:
    Checkpoints(place, "mine").write(5, FILES, {})

    sent = pickle.loads(pickle.dumps(Checkpoints(place, "mine")))

    assert sent.last().files == FILES


def test_what_opens_an_address_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    kept = Checkpoints("ftp://user:hunter-7@127.0.0.1:1/kept", "mine")

    with pytest.raises(MachineError, match="cannot be opened") as raised:
        kept.last()

    assert "hunter-7" not in f"{raised.value} {caplog.text} {kept!r}"


def test_an_address_that_nothing_opens_is_told() -> None:
    with pytest.raises(ArtifactError, match=r"nothing-opens-this.*Install the extra"):
        Checkpoints("nothing-opens-this://kept", "mine").last()


def test_a_place_that_cannot_be_written_is_told_with_the_checkpoint_and_the_one_before_stays(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("no folder")

    for place in (tmp_path / "file", f"shelved://{tmp_path}/file"):
        with pytest.raises(MachineError, match=r"file: checkpoint 5: cannot be written: .*Run it again then"):
            Checkpoints(place, "mine").write(5, {}, {})


def test_a_bucket_that_is_away_is_forgiven_twice_and_told_whatever_its_library_raises(tmp_path: Path) -> None:
    kept = Checkpoints(f"away://{tmp_path}/kept", "mine")

    told = "checkpoint 5: cannot be written: EndpointError: could not connect to the endpoint at "
    assert kept.attempt(5, FILES, {}).startswith(told)
    assert kept.attempt(10, FILES, {}) is not None
    with pytest.raises(MachineError, match=r"checkpoint 15: cannot be written: EndpointError"):
        kept.attempt(15, FILES, {})
    with pytest.raises(MachineError, match="cannot be read: EndpointError"):
        kept.last()


def test_a_bucket_that_is_lost_while_one_is_read_is_told(tmp_path: Path) -> None:
    Checkpoints(f"shelved://{tmp_path}/kept", "mine").write(5, FILES, {})

    with pytest.raises(MachineError, match="cannot be read: EndpointError: the connection was reset"):
        Checkpoints(f"stalled://{tmp_path}/kept", "mine").last()


@pytest.mark.parametrize("raised", [KeyboardInterrupt, MemoryError])
def test_what_is_no_failure_of_a_bucket_is_not_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: type[BaseException]
) -> None:
    def raise_(*_: object, **__: object) -> NoReturn:
        raise raised

    monkeypatch.setattr(Shelved, "pipe_file", raise_)

    with pytest.raises(raised):
        Checkpoints(f"shelved://{tmp_path}/kept", "mine").attempt(5, FILES, {})


def test_where_nothing_may_be_removed_checkpoints_are_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "only put is allowed")

    monkeypatch.setattr(Shelved, "rm_file", refused)
    kept = Checkpoints(f"shelved://{tmp_path}/kept", "mine")

    assert [kept.attempt(at, FILES, {}) for at in range(1, 7)] == [None] * 6
    assert kept.last().at == 6
    assert "kept cannot be removed: only put is allowed" in caplog.text


def test_a_checkpoint_whose_place_cannot_be_opened_is_named() -> None:
    told = Checkpoints("ftp://user:hunter-7@127.0.0.1:1/kept", "mine").attempt(5, FILES, {})

    assert told.startswith("checkpoint 5: the place of the checkpoints cannot be opened: ")
    assert "None" not in told
    assert "hunter-7" not in told


@pytest.mark.chaos
@pytest.mark.parametrize(
    "disaster",
    [Disaster(0, "load"), Disaster(1, "step", 22), Disaster(0, "write", 19), Disaster(0, "step", 39)],
    ids=lambda one: f"{one.place} {one.step}",
)
def test_a_lost_worker_s_training_goes_on_from_an_address(
    two: Client, left, tmp_path: Path, disaster: Disaster
) -> None:
    two.register_plugin(Shelving())
    place = f"shelved://{tmp_path}/kept"

    result = run_gang(
        two,
        Counting(place, disasters=(disaster,)),
        ranks=2,
        recovery=Recovery(replace_within="60s"),
        rendezvous=Adder(),
    )

    assert result.results == (truth(), truth())
    assert len(result.lost) == 1
    assert names_at(place) == [f"{at:012d}.checkpoint" for at in (35, 40)]
    assert left() == {}
