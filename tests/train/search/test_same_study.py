"""A study that another search goes on with: one of fewer trials, or with other ranks, learns what it would alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_core.spec.network import MLP
from mlflow_core.spec.search import Int, LogFloat, Search
from mlflow_core.spec.trainer import Family, Torch
from mlflow_core.train.data.training_set import TrainingData
from tests.train.search.searched import SPACE, TRAINER, outcomes, search, small_set


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return small_set(tmp_path_factory.mktemp("data"))


def test_a_search_with_fewer_trials_than_its_study_has_takes_the_first_ones(
    data: TrainingData, tmp_path: Path
) -> None:
    settings = Search(trials=6, space=SPACE, pruner=None, seed=5)
    few = settings.model_copy(update={"trials": 3})

    longer = search(settings, data, tmp_path / "longer")
    shorter = search(few, data, tmp_path / "longer")
    alone = search(few, data, tmp_path / "alone")

    assert outcomes(shorter) == outcomes(alone) == outcomes(longer)[:3]
    assert shorter.best.number == alone.best.number
    assert (shorter.asked, shorter.left) == (3, 0)


def test_how_many_ranks_a_trainer_has_makes_no_other_study(data: TrainingData, tmp_path: Path) -> None:
    settings = Search(trials=2, space={"trainer.max_depth": Int(1, 4)}, metric="log_loss")
    family = Family(trainer=TRAINER, by=("carrier",), least_rows=50)
    wider = family.model_copy(update={"trainer": TRAINER.model_copy(update={"workers": 2})})

    one = search(settings, data, tmp_path, trainer=family)
    other = search(settings, data, tmp_path, trainer=wider)

    assert outcomes(other) == outcomes(one)
    assert isinstance(other.trainer, Family)
    assert other.trainer.trainer.workers == 2
    assert other.best.attempts == 1


def test_the_device_that_networks_train_on_makes_no_other_study(data: TrainingData, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    settings = Search(trials=1, space={"learning_rate": LogFloat(1e-4, 1e-2)}, metric="log_loss")
    anywhere = Torch(module=MLP(hidden=(4,)), epochs=1)

    one = search(settings, data, tmp_path, trainer=anywhere)
    other = search(settings, data, tmp_path, trainer=anywhere.model_copy(update={"device": "cpu"}))

    assert outcomes(other) == outcomes(one)
    assert other.best.attempts == 1
