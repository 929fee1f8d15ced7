"""Where a training works: kept while it has a checkpoint to go on from, shared by no two drivers, gone at the end."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import fsspec
import pytest

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.errors import ArtifactError
from mlflow_core.spec import Recovery, XGBoost
from mlflow_core.train.gang.checkpoints import Checkpoints
from mlflow_core.workflow.kept_trainings import KeptTrainings, may_be_driven
from mlflow_core.workflow.lease import lease_held
from mlflow_core.workflow.training_folder import training_folder

TRAINER = XGBoost(rounds=5)


class Here:
    """A machine's folder of trainings, and an artifact store that several machines may share."""

    def __init__(self, folder: Path, location: str, driven: tuple[str, ...] = ()) -> None:
        self.folder, self.location = folder, location
        self.kept = KeptTrainings(ArtifactStore(location), lambda run: run in driven)

    def training(self, trainer=TRAINER, dataset="d", *, run="run", fresh=False):
        return training_folder(self.folder, self.kept, trainer, dataset, run=run, fresh=fresh)

    def begin(self, run="run"):
        """A training that writes a checkpoint and is interrupted."""
        with pytest.raises(KeyboardInterrupt), self.training(run=run) as folder:
            Checkpoints(folder.checkpoints, "mine").write(50, {"model": b"half"}, {})
            (folder.path / "scratch").write_text("rows")
            raise KeyboardInterrupt
        return folder

    def stored(self):
        """What the store has of trainings."""
        store, path = fsspec.core.url_to_fs(f"{self.location}/trainings")
        return sorted(store.find(path)) if store.exists(path) else []

    def left(self):
        """What lies in the machine's folder."""
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture(params=["folder", "memory"])
def here(request, tmp_path):
    if request.param == "folder":
        yield Here(tmp_path / "trainings", str(tmp_path / "store"))
        return
    location = f"memory://{uuid.uuid4().hex}"
    yield Here(tmp_path / "trainings", location)
    store = fsspec.filesystem("memory")
    if store.exists(location):
        store.rm(location, recursive=True)


def model_at(folder):
    found = Checkpoints(folder.checkpoints, "mine").last()
    return None if found is None else found.files["model"]


def test_an_interrupted_training_finds_its_checkpoints_again_and_a_finished_one_leaves_nothing(here):
    first = here.begin()
    assert (len(here.stored()), here.left()) == (2, []), "the checkpoint and its run; rows are gone"

    with here.training() as again:
        assert model_at(again) == b"half"

    assert (first.begun, again.begun) == (False, True)
    assert again.checkpoints == first.checkpoints
    assert again.checkpoints not in repr(again), "it may hold what opens the store"
    assert (here.stored(), here.left()) == ([], [])


def test_another_trainer_or_dataset_is_another_training(here):
    here.begin()

    with here.training(XGBoost(rounds=6)) as other, here.training(dataset="e") as elsewhere:
        assert not other.begun
        assert not elsewhere.begun


def test_a_fresh_start_forgets_the_checkpoints(here):
    here.begin()

    with here.training(run="another", fresh=True) as folder:
        assert not folder.begun
        assert model_at(folder) is None
        assert list(folder.path.iterdir()) == []
    assert here.stored() == []


def test_a_fresh_start_that_was_interrupted_goes_on_with_what_it_has_done_itself(here):
    here.begin()

    with here.training(fresh=True) as folder:
        assert folder.begun
        assert model_at(folder) == b"half"


def test_a_driver_that_was_asleep_leaves_alone_what_another_run_has_taken_over(here, tmp_path):
    elsewhere = Here(tmp_path / "elsewhere", here.location)

    with here.training(run="ours") as first:
        theirs = elsewhere.begin(run="theirs")
        assert theirs.checkpoints == first.checkpoints

    assert model_at(theirs) == b"half"


def test_two_drivers_of_the_same_training_work_apart_and_the_second_leaves_nothing(here):
    here.begin()

    with here.training() as first:
        second = here.begin()
        assert second.path != first.path
        assert second.checkpoints != first.checkpoints
        assert not second.path.exists()
        assert first.begun
        assert model_at(second) is None
        assert model_at(first) == b"half"

    assert (here.stored(), here.left()) == ([], [])


def test_a_training_that_fails_before_its_first_checkpoint_leaves_nothing(here):
    with pytest.raises(ValueError, match="bad"), here.training() as folder:
        (folder.path / "scratch").write_text("x")
        raise ValueError("bad")

    assert (here.stored(), here.left()) == ([], [])


def test_another_machine_goes_on_where_the_run_has_ended_and_works_apart_while_it_may_be_driven(
    here, tmp_path
):
    first = here.begin(run="theirs")
    busy = Here(tmp_path / "elsewhere", here.location, driven=("theirs",))
    idle = Here(tmp_path / "elsewhere", here.location)

    with busy.training(run="ours") as apart:
        assert (apart.begun, apart.checkpoints) == (False, f"{first.checkpoints.removesuffix('0')}1")
    assert model_at(first) == b"half"
    with idle.training(run="ours") as again:
        assert (again.begun, model_at(again)) == (True, b"half")
    assert here.stored() == []


def test_a_run_that_goes_on_elsewhere_takes_its_own_training_up_although_its_lease_still_holds(
    here, tmp_path
):
    here.begin(run="ours")

    with Here(tmp_path / "elsewhere", here.location, driven=("ours",)).training(run="ours") as again:
        assert again.begun


def aged(here, days=15.0):
    """Make what lies in a store that is a folder, and on this machine, as old as that."""
    then = time.time() - days * 86_400
    for root in (Path(here.location), here.folder):
        for path in (*root.rglob("*"), root):
            os.utime(path, (then, then))


@pytest.fixture
def on_disk(tmp_path):
    return Here(tmp_path / "trainings", str(tmp_path / "store"))


def test_what_never_came_back_is_taken_away_after_two_weeks_but_not_by_its_own_driver(on_disk):
    on_disk.begin()
    aged(on_disk)
    with on_disk.training() as again:
        assert again.begun

    old = Path(on_disk.begin().checkpoints)
    aged(on_disk)
    with on_disk.training(dataset="another"):
        assert not old.exists()


def test_what_a_run_may_still_go_on_with_stays_however_old_it_is(on_disk):
    old = Path(on_disk.begin(run="theirs").checkpoints)
    aged(on_disk)
    others = Here(on_disk.folder, on_disk.location, driven=("theirs",))

    with others.training(dataset="another", run="ours"):
        assert old.exists()
    assert others.kept.remove_old(really=False) == ()


def test_a_checkpoint_that_was_written_lately_keeps_one_that_is_old(on_disk):
    old = on_disk.begin()
    aged(on_disk)
    Checkpoints(old.checkpoints, "mine").write(60, {"model": b"more"}, {})

    with on_disk.training(dataset="another"):
        assert model_at(old) == b"more"


def test_scratch_of_a_driver_that_was_killed_goes_after_two_weeks(on_disk):
    killed = on_disk.folder / "a-training-0"
    killed.mkdir(parents=True)
    (killed / "rows").write_text("x")
    with on_disk.training():
        assert killed.exists()
    os.utime(killed / "rows", (0, 0))
    os.utime(killed, (0, 0))

    with on_disk.training():
        assert not killed.exists()


def test_how_a_training_runs_does_not_make_it_another(here):
    here.begin()

    patient = XGBoost(rounds=5, recovery=Recovery(restarts=1), memory_per_worker="1GiB")
    with here.training(patient) as again:
        assert again.begun


def test_a_store_that_is_gone_when_a_training_has_failed_hides_no_reason(here, monkeypatch, caplog):
    def gone(*_args, **_kwargs):
        raise ArtifactError("is gone", place="the store")

    with pytest.raises(ValueError, match="bad"), here.training() as folder:
        Checkpoints(folder.checkpoints, "mine").write(50, {}, {})
        monkeypatch.setattr(KeptTrainings, "begun", gone)
        monkeypatch.setattr(KeptTrainings, "clear", gone)
        raise ValueError("bad")

    assert "checkpoints that are not needed any more stay: the store: is gone" in caplog.text


def test_a_run_may_be_driven_while_it_has_a_lease_or_nothing_is_known_of_it(workspace):
    asked = may_be_driven(workspace.metadata)
    run = workspace.metadata.create_run("breakdown").id

    assert not asked(run), "nobody has it"
    with lease_held(workspace.metadata, run):
        assert asked(run)
    workspace.metadata.finish_run(run, "failed", error="x")
    assert not asked(run)
    assert asked(uuid.uuid4().hex), "another database's"


def test_checkpoints_that_cannot_be_removed_are_told(tmp_path):
    here = Here(tmp_path / "trainings", str(tmp_path / "store"))
    (tmp_path / "store" / "trainings").mkdir(parents=True)
    (tmp_path / "store" / "trainings" / "late").write_text("a file where a folder should be")

    with pytest.raises(ArtifactError, match="cannot be removed: Not a directory"):
        here.kept.clear("late")
    here.kept.clear("never there")


def test_what_goes_while_a_training_is_cleared_leaves_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptTrainings(ArtifactStore(str(tmp_path)), lambda _: False)
    folder = tmp_path / "trainings" / "one"
    folder.mkdir(parents=True)
    for name in "abcd":
        (folder / name).write_text("part")
    unlink, gone = os.unlink, []

    def unlink_after_another(path, **options):
        if not gone:
            gone.append(path)
            unlink(path, **options)
        unlink(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", unlink_after_another)
        kept.clear("one")

    assert len(gone) == 1
    assert not folder.exists()


def test_what_cannot_be_removed_of_a_training_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptTrainings(ArtifactStore(str(tmp_path)), lambda _: False)
    kept.take("one", "run")

    def refused(*_, **__):
        raise PermissionError(13, "not allowed")

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refused)
        with pytest.raises(ArtifactError, match="trainings/one: cannot be removed: not allowed"):
            kept.clear("one")
