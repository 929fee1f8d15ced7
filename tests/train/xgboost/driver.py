"""A training as a process of its own, which tests kill: ``python driver.py DATA WORK ROUND`` kills itself there."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from mlflow_core import train
from mlflow_core.train.data.training_set import TrainingData
from tests.train.kept import Kept
from tests.train.xgboost.rows import FEATURES
from tests.train.xgboost.test_resume import TRAINER


class Killing(Kept):
    """Ends its own process when it is told of a round."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at = at

    def metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        if step == self._at:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    folder, work, at, memory = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    shards = {part: tuple(sorted(folder.glob(f"{part}-*.parquet"))) for part in ("train", "validate", "test")}
    data = TrainingData(shards=shards, label="binary", features=FEATURES)
    trainer = TRAINER.model_copy(update={"memory": memory})
    train.fit(trainer, data, train.TrainContext(work, recorder=Killing(at)))
