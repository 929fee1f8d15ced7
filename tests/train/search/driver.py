"""A driver in a process of its own, which a test kills: ``python -m tests.train.search.driver FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from mlflow_core.spec.search import Search
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.search.recorder import Trial
from tests.train.made import FEATURES
from tests.train.search.searched import SPACE, Mirror, search

SETTINGS = Search(trials=8, space=SPACE, seed=11)


class Journal(Mirror):
    """Writes down each finished trial, so that a process that is killed leaves what it told."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def trial(self, trial: Trial) -> None:
        with self._path.open("a") as file:
            file.write(f"{trial.number}\n")


def data_in(folder: Path) -> TrainingData:
    """The training set that a test has written there."""
    shards = {
        part: tuple(sorted((folder / "data").glob(f"{part}-*.parquet")))
        for part in ("train", "validate", "test")
    }
    return TrainingData(shards=shards, label="label", features=FEATURES, request=("carrier", "hour"))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    search(SETTINGS, data_in(folder), folder, recorder=Journal(folder / "journal"))
