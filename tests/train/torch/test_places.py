"""Where checkpoints are changes nothing: from a folder of one's own or an address a training goes on to the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from mlflow_core.errors import MachineError
from mlflow_core.train.gang.checkpoints import Checkpoints
from mlflow_core.train.torch.loop import Training
from tests.train.kept import Away
from tests.train.made import fit, training_set
from tests.train.shelved import Shelving, names_at
from tests.train.torch.test_resume import STEPS, TRAINER, Stops, armed, but, same


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many steps have been taken since it was asked last."""
    count, step = [0], Training._step

    def counted(self: Any, batch: Any) -> None:
        count[0] += 1
        step(self, batch)

    monkeypatch.setattr(Training, "_step", counted)

    def since() -> int:
        told, count[0] = count[0], 0
        return told

    return since


@pytest.mark.parametrize("fields", [{}, {"checkpoint_every": None, "ema": None}, {"early_stopping": 0}])
def test_an_interrupted_training_goes_on_to_the_same_bits_and_what_it_ended_with_stays_until_it_is_cleared(
    tmp_path: Path, place: Path | str, steps: Callable[[], int], fields: dict[str, Any]
) -> None:
    data, trainer = training_set(tmp_path / "data"), but(TRAINER, **fields)
    whole = fit(trainer, data, workdir=tmp_path / "whole")
    assert steps() == STEPS

    with pytest.raises(KeyboardInterrupt):
        fit(trainer, data, workdir=tmp_path / "work", checkpoints=place, recorder=Stops(60))
    last = int(names_at(place)[-1].partition(".")[0])
    assert 28 <= last <= 72
    steps()
    model = fit(trainer, data, workdir=tmp_path / "again", checkpoints=place)

    same(whole, model)
    assert steps() == STEPS - last
    assert names_at(place)[-1] == f"{STEPS:012d}.checkpoint"
    same(whole, fit(trainer, data, workdir=tmp_path / "third", checkpoints=place))
    assert steps() == 0
    Checkpoints(place, "any").clear()
    assert names_at(place) == []


def test_a_training_that_stopped_early_is_not_taken_up_again(
    tmp_path: Path, steps: Callable[[], int]
) -> None:
    data = training_set(tmp_path / "data")
    trainer = but(TRAINER, epochs=30, learning_rate=0.05, early_stopping=2, checkpoint_every=50)
    first = fit(trainer, data, workdir=tmp_path / "work", checkpoints=tmp_path / "kept")
    assert 0 < steps() < 30 * 28

    again = fit(trainer, data, workdir=tmp_path / "work", checkpoints=tmp_path / "kept")

    same(first, again)
    assert steps() == 0


@pytest.mark.chaos
def test_a_worker_lost_while_checkpoints_are_behind_an_address_changes_nothing(
    tmp_path: Path, two: Client
) -> None:
    two.register_plugin(Shelving())
    data, trainer = training_set(tmp_path / "data"), but(TRAINER, workers=2)
    whole = fit(trainer, data, workdir=tmp_path / "whole", client=two)
    place = f"shelved://{tmp_path}/kept"

    with armed(two, "mid", 3):
        model = fit(trainer, data, workdir=tmp_path / "work", client=two, checkpoints=place)

    same(whole, model)
    assert any("was lost while it trained" in note for note in model.notes)
    assert names_at(place)[-1] == f"{STEPS:012d}.checkpoint"


def test_a_checkpoint_that_cannot_be_written_is_told_and_the_next_one_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, place, trainer = (
        training_set(tmp_path / "data"),
        tmp_path / "place",
        but(TRAINER, checkpoint_every=20),
    )
    whole = fit(trainer, data, workdir=tmp_path / "whole")

    recorder = Away(place, "train_loss", 0, 1)  # from after step 28 to after step 56
    model = fit(trainer, data, workdir=tmp_path / "work", checkpoints=place, recorder=recorder)

    same(whole, model)
    assert [line for line in caplog.messages if "without a new checkpoint: checkpoint 40: cannot" in line]
    assert names_at(place)[-1] == f"{STEPS:012d}.checkpoint"


def test_a_worker_with_less_memory_than_declared_is_told_before_any_data_is_read(
    tmp_path: Path, two: Client
) -> None:
    data = training_set(tmp_path / "data")
    for path in data.files("train"):
        path.unlink()

    with pytest.raises(
        MachineError, match=r"Torch: memory_per_worker says 4\.0 GiB, .*tcp://[\d.:]+ 3\.0 GiB"
    ):
        fit(but(TRAINER, workers=2, memory_per_worker="4GiB"), data, workdir=tmp_path / "work", client=two)
