"""Contestants in subprocesses: their time, their memory while they train, and the quality of what they trained."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.train.contestant import READY, TRAINED
from benchmarks.watch import GIB, Watch
from mlflow_core.train.data.training_set import TrainingData

__all__ = ["Trained", "measure"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Trained:
    """What a contestant did.

    Attributes:
        outcome: ``done``, or in words why not.
        seconds: From Parquet shards to a model; None where it did not finish.
        quality: AUC on the validation part; None where it did not finish.
        process: The most memory of its process alone or of its largest worker, bytes resident.
        whole: The most memory of it and its children together, bytes resident.
    """

    outcome: str
    seconds: float | None
    quality: float | None
    process: int
    whole: int


def measure(
    name: str, small: TrainingData, data: TrainingData, scratch: Path, *, within: float = 300.0
) -> Trained:
    """Let a contestant train in a process of its own.

    Args:
        name: One of ``boosting.CONTESTANTS``.
        small: What it warms up with.
        data: What it is measured on.
        scratch: A folder for its work.
        within: Seconds after which it is ended, from the end of the warm-up.
    """
    print(f"  {name} ...", end="", file=sys.stderr, flush=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=scratch))
    order, answer, log = folder / "order.json", folder / "answer.json", folder / "log.txt"
    order.write_text(json.dumps({"small": _fields(small), "data": _fields(data)}))
    with log.open("wb") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.train.contestant", name, str(order)],
            cwd=ROOT,
            stdout=told,
            stderr=told,
            start_new_session=True,
        )
        watch = Watch(process, folder / READY, within, folder / TRAINED)
        outcome = watch.until_the_end()
    taken: dict[str, float] = json.loads(answer.read_text()) if answer.exists() else {}
    if outcome == "failed":
        said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        outcome = f"failed: {said[-1] if said else 'without a word'}"
    found = Trained(
        outcome, taken.get("seconds"), taken.get("auc"), watch.worker_rss or watch.peak, watch.peak
    )
    print(f" {outcome} {taken} {found.process / GIB:.2f} GiB", file=sys.stderr, flush=True)
    return found


def _fields(data: TrainingData) -> dict[str, Any]:
    shards = {part: [str(path) for path in paths] for part, paths in data.shards.items()}
    return {"shards": shards, "features": list(data.features)}
