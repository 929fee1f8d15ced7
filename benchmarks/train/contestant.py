"""One contestant in a process of its own: ``python -m benchmarks.train.contestant NAME ORDER.json``.

What is timed goes from Parquet shards to a model. Imports, a cluster's start and a small training before are not, nor
is the measuring of its quality after.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

from benchmarks.train.alone import Alone
from benchmarks.train.boosting import CONTESTANTS
from mlflow_core.train.data.training_set import TrainingData

__all__ = ["READY", "TRAINED", "main"]

READY, TRAINED = "ready", "trained"


def main(name: str, order_file: Path) -> None:
    """Train small, say that time counts from now on, train, and write time and quality."""
    order = json.loads(order_file.read_text())
    small, data = (_data(order[one]) for one in ("small", "data"))
    scratch = order_file.parent / "work"
    with CONTESTANTS[name]() as train:
        if isinstance(train, Alone):
            train.hold(small, scratch / "small")
        train(small, scratch / "small")
        if isinstance(train, Alone):  # what it finds in memory is not what it is measured by
            train.hold(data, scratch / "large")
        (order_file.parent / READY).touch()
        start = time.perf_counter()
        quality = train(data, scratch / "large")
        taken = time.perf_counter() - start
        (order_file.parent / TRAINED).touch()
        answer = order_file.parent / "answer.half"
        answer.write_text(json.dumps({"seconds": taken, "auc": quality()}))
        answer.rename(order_file.parent / "answer.json")
    shutil.rmtree(scratch, ignore_errors=True)


def _data(fields: dict[str, object]) -> TrainingData:
    shards = {part: tuple(map(Path, paths)) for part, paths in fields["shards"].items()}
    return TrainingData(shards=shards, label="label", features=tuple(fields["features"]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
