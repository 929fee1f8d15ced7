"""One training loop in a process of its own: ``python -m benchmarks.train.stepping ORDER.json``.

``bare`` is a loop of plain PyTorch. The others are the trainer's, in this process or on workers. Each writes how many
rows it took a second, and losses by step: a bare loop's of every step, the trainer's of those that it tells of.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from distributed import Client

from benchmarks.train.bare import bare_steps
from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.spec import Torch
from mlflow_core.train import NullRecorder, TrainContext, fit
from mlflow_core.train.data.training_set import TrainingData

LAST = 20


def main(order_file: Path) -> None:
    """Do what the order says, and write the answer beside it."""
    order = json.loads(order_file.read_text())
    trainer = Torch.from_json(order["trainer"])
    shards = {part: tuple(map(Path, paths)) for part, paths in order["shards"].items()}
    data = TrainingData(shards=shards, label="label", features=tuple(order["features"]))
    doing = {"bare": bare_steps, "trainer": trainer_steps, "killed": _killed}[order["what"]]
    answer = doing(trainer, data, Path(order["cache"]), order_file.parent, order)
    half = order_file.with_suffix(".half")
    half.write_text(json.dumps(answer))
    half.rename(order_file.with_name("answer.json"))


def trainer_steps(
    trainer: Torch, data: TrainingData, cache: Path, scratch: Path, order: Mapping[str, Any]
) -> dict[str, Any]:
    torch.set_num_threads(order["threads"])
    told = Told()
    with _cluster(order) as client:
        # The second time as in a cluster that has trained before: imports done, the matrix there.
        for number in range(2):
            told = Told()
            fit(
                trainer,
                data,
                TrainContext(
                    scratch / str(number), client, told, told, cache, profile=True, threads=order["threads"]
                ),
            )
    spent = {name: value for name, value in told.last.items() if name.startswith("seconds.")}
    stepping = spent["seconds.total"] - spent["seconds.validation"] - spent["seconds.checkpoints"]
    rows = told.facts["rows.train"] * trainer.epochs
    return {
        "rows_per_second": rows / stepping,
        "us_a_row": 1e6 * spent["seconds.processor"] * trainer.workers / rows,
        "losses": told.losses,
        "start": told.first - told.began,
        **spent,
    }


def last_losses(ours: Mapping[Any, float], theirs: Mapping[Any, float]) -> tuple[float, float]:
    """Each side's mean loss over the last twenty steps that both tell of."""
    last = sorted(ours.keys() & theirs.keys(), key=int)[-LAST:]
    return sum(ours[step] for step in last) / len(last), sum(theirs[step] for step in last) / len(last)


def _killed(
    trainer: Torch, data: TrainingData, cache: Path, scratch: Path, order: Mapping[str, Any]
) -> dict[str, float]:
    with _cluster(order) as client:
        fit(trainer, data, TrainContext(scratch / "warm", client, cache=cache))
        assert client is not None
        pids = client.run(os.getpid)
        told = Told(after=20, then=lambda: os.kill(pids[max(pids)], signal.SIGKILL))
        fit(trainer, data, TrainContext(scratch / "killed", client, told, told, cache))
    return {"back": told.back - told.struck}


class Told(NullRecorder):
    """Hears what a training tells, and when.

    Args:
        after: After so many times that steps were told of ...
        then: ... this is done, once.
    """

    def __init__(self, after: int = 0, then: Callable[[], None] | None = None) -> None:
        self.facts: dict[str, Any] = {}
        self.last: dict[str, float] = {}
        self._after, self._then = after, then
        self.losses: dict[int, float] = {}
        self.began = self.first = self.struck = self.back = 0.0
        self._times = 0

    def params(self, params: Mapping[str, Any]) -> None:
        self.facts |= params

    def metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        self.last |= metrics
        if step is not None and "batch_loss" in metrics:
            self.losses[step] = metrics["batch_loss"]

    def stage(self, name: str, total: int | None = None, unit: str = "") -> Any:  # noqa: ARG002 the protocol's
        if unit == "steps":
            self.began = time.monotonic()
        return nullcontext(self)

    def advance(self, n: int = 1, *, rows: int = 0, size: int = 0) -> None:  # noqa: ARG002 the protocol's
        if not self.began:
            return  # what is told of is not a step yet
        now = time.monotonic()
        self.first = self.first or now
        if self.struck and not self.back:
            self.back = now
        self._times += 1
        if self._then is not None and self._times == self._after:
            self.struck, then = now, self._then
            threading.Thread(target=then).start()


@contextmanager
def _cluster(order: Mapping[str, Any]) -> Iterator[Client | None]:
    if not order["workers"]:
        yield None
        return
    with open_cluster(ClusterSettings(workers=order["workers"], memory="4GiB")) as client:
        yield client


if __name__ == "__main__":
    main(Path(sys.argv[1]))
