"""Where checkpoints are changes nothing: from a folder of one's own or an address a training goes on to the same bytes."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from distributed import Client

from mlflow_core.errors import MachineError, TrainError
from mlflow_core.train.gang.checkpoints import Checkpoints
from tests.train.kept import Away, Kept
from tests.train.made import fit
from tests.train.shelved import Shelving, names_at
from tests.train.xgboost.counted import counted_rounds
from tests.train.xgboost.killing import Moment, killed_at
from tests.train.xgboost.rows import training_set
from tests.train.xgboost.test_lost_workers import TRAINER as GANG
from tests.train.xgboost.test_resume import TRAINER, Stops


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    return counted_rounds(monkeypatch)


def test_an_interrupted_training_goes_on_to_the_same_bytes_and_what_it_ended_with_stays_until_it_is_cleared(
    tmp_path: Path, place: Path | str, rounds: list[int]
) -> None:
    data = training_set(tmp_path / "data", "binary")
    whole = fit(TRAINER, data, workdir=tmp_path / "whole")
    every = list(range(len(whole.history["auc"])))
    assert rounds == every

    with pytest.raises(KeyboardInterrupt):
        fit(TRAINER, data, workdir=tmp_path / "work", checkpoints=place, recorder=Stops(17))
    assert names_at(place) == [f"{at:012d}.checkpoint" for at in (7, 14)]
    rounds.clear()
    kept = Kept()
    model = fit(TRAINER, data, workdir=tmp_path / "again", checkpoints=place, recorder=kept)

    assert (model.scorer.ubj, model.history, model.best) == (whole.scorer.ubj, whole.history, whole.best)
    assert [step for step, _ in kept.told] == list(range(len(whole.history["auc"])))
    assert rounds == every[14:]
    assert len(names_at(place)) == 2, "the caller has not said yet that the model is in safety"
    rounds.clear()
    found = fit(TRAINER, data, workdir=tmp_path / "third", checkpoints=place)
    assert (found.scorer.ubj, found.history, found.best) == (whole.scorer.ubj, whole.history, whole.best)
    assert rounds == []
    Checkpoints(place, "any").clear()
    assert names_at(place) == []


def test_a_checkpoint_that_cannot_be_written_is_told_and_the_next_one_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, place = training_set(tmp_path / "data", "binary"), tmp_path / "place"
    whole = fit(TRAINER, data, workdir=tmp_path / "whole")
    assert len(whole.history["auc"]) > 22

    model = fit(
        TRAINER,
        data,
        workdir=tmp_path / "work",
        checkpoints=place,
        recorder=Away(place, "validate_auc", 10, 15),
    )

    assert model.scorer.ubj == whole.scorer.ubj
    assert [line for line in caplog.messages if "without a new checkpoint: checkpoint 14: cannot" in line]
    assert len(names_at(place)) == 2


def test_a_worker_lost_while_checkpoints_are_behind_an_address_changes_nothing(
    tmp_path: Path, client: Client
) -> None:
    client.register_plugin(Shelving())
    data, place = training_set(tmp_path / "data", "binary"), f"shelved://{tmp_path}/kept"
    whole = fit(GANG, data, client=client, workdir=tmp_path / "whole")
    kept = Kept()

    with killed_at(client, Moment("round", 14, 0, tmp_path / "killed")):
        model = fit(GANG, data, client=client, workdir=tmp_path / "work", checkpoints=place, recorder=kept)
    client.wait_for_workers(2, timeout=60)

    assert (tmp_path / "killed").exists()
    assert model.scorer.ubj == whole.scorer.ubj
    assert kept.seen["gang.attempts"] == 2
    assert names_at(place)[-1] == f"{len(whole.history['auc']):012d}.checkpoint"


def test_a_place_that_workers_do_not_reach_is_told(tmp_path: Path, client: Client) -> None:
    data = training_set(tmp_path / "data", "binary")

    with pytest.raises(
        TrainError, match=r"the model that was trained is gone\. Expected a place of checkpoints that"
    ):
        fit(GANG, data, client=client, workdir=tmp_path / "work", checkpoints=f"memory://{uuid.uuid4().hex}")


def test_a_worker_with_less_memory_than_declared_is_told_before_any_data_is_read(
    tmp_path: Path, client: Client
) -> None:
    data = training_set(tmp_path / "data", "binary", rows=100)
    for path in data.files("train"):
        path.unlink()
    greedy = GANG.model_copy(update={"memory_per_worker": 5 << 30})

    with pytest.raises(MachineError, match=r"memory_per_worker says 5\.0 GiB, .*tcp://[\d.:]+ 4\.0 GiB"):
        fit(greedy, data, client=client, workdir=tmp_path / "work")
    with pytest.raises(
        MachineError, match=r"this process may take .*, and memory_per_worker says 1024\.0 TiB"
    ):
        fit(TRAINER.model_copy(update={"memory_per_worker": 1 << 50}), data, workdir=tmp_path / "work")
