"""A training set and a search that are small enough to be run often."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow_core import train
from mlflow_core.spec.search import Float, Int, LogFloat, Search
from mlflow_core.spec.trainer import Trainer, XGBoost
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.search.recorder import StudyFacts, Trial
from mlflow_core.train.search.result import SearchResult
from mlflow_core.train.search.run import run_search
from tests.train.made import table, write

TRAINER = XGBoost(rounds=18, max_depth=4, seed=7)
SPACE = {"max_depth": Int(1, 6), "learning_rate": LogFloat(0.02, 0.5), "params.gamma": Float(0, 2)}


def small_set(folder: Path, **more: object) -> TrainingData:
    parts = {"train": [table(500, 1), table(300, 2)], "validate": [table(300, 3)], "test": [table(300, 4)]}
    return write(folder, parts, **more)


def search(
    settings: Search, data: TrainingData, folder: Path, *, trainer: Trainer = TRAINER, **more: Any
) -> SearchResult:
    of_run = {name: more.pop(name) for name in ("name", "storage", "recorder", "schema") if name in more}
    context = train.TrainContext(workdir=folder / "work", **{"threads": 1, **more})
    return run_search(
        trainer,
        settings,
        data,
        context,
        **{"name": "study", "storage": folder / "studies" / "study.sqlite", **of_run},
    )


def outcomes(result: SearchResult) -> list[tuple[Any, ...]]:
    """What is the same in two studies that are the same: no times, no places."""
    return [(one.number, one.state, dict(one.settings), one.value, dict(one.values)) for one in result.trials]


class Mirror:
    """A recorder that keeps what it is told."""

    def __init__(self) -> None:
        self.studies: list[StudyFacts] = []
        self.trials: list[Trial] = []

    def study(self, study: StudyFacts) -> None:
        self.studies.append(study)

    def trial(self, trial: Trial) -> None:
        self.trials.append(trial)

    @property
    def numbers(self) -> list[int]:
        return [trial.number for trial in self.trials]


def settings_of(result: SearchResult) -> list[Mapping[str, Any]]:
    return [trial.settings for trial in result.trials]
