"""Networks: the trainer against bare loops, alone and of two, the data path, and how soon a gang is back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import Row
from benchmarks.train.bare import APART, DISTRIBUTED, LOOPS, MEETING
from benchmarks.train.data import training_set
from benchmarks.train.stepping import last_losses
from mlflow_core.engine.cluster.environment import WORKER_ENVIRONMENT
from mlflow_core.spec import GRU, MLP, FTTransformer, Torch
from mlflow_core.train.data.shuffle import BlockOrder, batches, block_of
from mlflow_core.train.data.training_set import TrainingData

__all__ = ["data_path_rows", "network_rows", "recovery_rows"]

ROOT = Path(__file__).parents[2]
MOST_LOSS = 1e-4  # relative difference up to which two loops have learned the same; it was none
ROUNDS = 3
GOAL = 0.9  # of what two loops apart reach


@dataclass(frozen=True)
class Case:
    """A network and how much it is trained on."""

    name: str
    trainer: Torch
    rows: int
    features: int = 50
    sequences: int = 0


def cases(small: bool = False) -> tuple[Case, ...]:
    """The networks; without dropout, so that a bare loop learns the same."""
    few = 8 if small else 1
    return (
        Case("MLP", _torch(MLP(dropout=0.0)), 400_000 // few),
        Case("GRU", _torch(GRU(dropout=0.0)), 160_000 // few, 20, sequences=16),
        Case("FT-Transformer", _torch(FTTransformer(blocks=2, width=64, dropout=0.0)), 40_000 // few, 30),
    )


def _torch(module: Any) -> Torch:
    return Torch(
        module=module,
        epochs=1,
        batch_size=1024,
        schedule="constant",
        weight_decay=0.0,  # the trainer decays weights alone, the bare loop all: small differences, which grow
        checkpoint_every=10**9,
        seed=1,
    )


def network_rows(scratch: Path, *, small: bool = False) -> list[Row]:
    """Rows a second of each network: in one process, on one worker, on two, and their peers; the best of rounds."""
    rows = []
    for case in cases(small):
        data = training_set(scratch / case.name, case.rows, case.features, sequences=case.sequences)
        run = Runs(case, data, scratch)
        # In turns, and of each the fastest: what else the machine does changes from minute to minute.
        rounds = [_round(run) for _ in range(1 if small else ROUNDS)]
        bare, here, one, two, apart, meeting, peer = (
            max(runs, key=lambda found: found["rows_per_second"]) for runs in zip(*rounds, strict=True)
        )
        name = f"{case.name}, {case.rows:,} rows"
        spent = here["seconds.total"] - here["seconds.validation"]
        rows += [
            _faster(f"{name}: trainer", here, "bare loop", bare, goal=None if small else 1 / 1.05),
            _faster(f"{name}: rank in a worker", one, "bare loop", bare, goal=None if small else 0.97),
            _faster(
                f"{name}: two workers", two, "two independent processes", apart, goal=None if small else GOAL
            ),
            limited(f"{name}: two workers", two, meeting, apart),
            _faster(f"{name}: two workers", two, "two of DistributedDataParallel", peer, goal=None),
            _less(
                f"{name}: trainer",
                "share of a step's time spent on data",
                here["seconds.data"] / spent,
                0.03,
                small,
            ),
            _less(f"{name}: two workers", "start s, until steps are told of", two["start"], 3.0, small),
        ]
    return rows


def _round(run: Runs) -> tuple[dict[str, Any], ...]:
    return (
        run("bare", threads=1),
        run("trainer", threads=1),
        run("trainer", threads=1, workers=1),
        run("trainer", threads=1, workers=2, ranks=2),
        *(run.beside(way) for way in (APART, MEETING, DISTRIBUTED)),
    )


def limited(case: str, ours: Mapping[str, Any], limit: Mapping[str, Any], apart: Mapping[str, Any]) -> Row:
    """Ours beside loops that only wait for each other in each step, which is the most that ranks can reach."""
    least, most = limit["rows_per_second"], apart["rows_per_second"]
    note = f"the limit over two independent processes: {least / most:.2f}"
    if least < GOAL * most:
        note += f", so {GOAL:g} is out of reach"
    row = _faster(case, ours, "the limit: two loops that only wait for each other", limit, goal=None)
    return replace(row, note=f"{row.note}; {note}")


def recovery_rows(scratch: Path, *, small: bool = False) -> list[Row]:
    """From the kill of one worker of two to steps beyond those that were lost."""
    case = cases(small)[0]
    data = training_set(scratch / case.name, case.rows, case.features)
    trainer = case.trainer.model_copy(update={"checkpoint_every": 20, "epochs": 3})
    found = Runs(Case(case.name, trainer, case.rows), data, scratch)("killed", threads=1, workers=2, ranks=2)
    return [
        _less(f"{case.name}: one worker of two killed", "s until it trains again", found["back"], 5.0, small)
    ]


def data_path_rows(scratch: Path, *, small: bool = False) -> list[Row]:
    """Rows a second from the cache in the order of training, beside a copy of the same bytes one after the other."""
    made = []
    sizes = (100_000, 400_000) if small else (1_000_000, 20_000_000)
    seconds = []
    for count in sizes:
        path = scratch / f"matrix-{count}.f32"
        matrix = np.memmap(path, np.float32, mode="w+", shape=(count, 50))
        for start in range(0, count, 1_000_000):
            matrix[start : start + 1_000_000] = np.arange(50, dtype=np.float32)
        matrix.flush()
        array = np.asarray(matrix)
        ours = min(_through(array, epoch) for epoch in range(3))
        plain = min(_copied(array) for _ in range(3))
        seconds.append(ours / count)
        millions = count / ours / 1e6
        made.append(
            Row(
                f"data path, {count:,} x 50",
                "million rows/s",
                millions,
                "copy in order",
                count / plain / 1e6,
                plain / ours,
                None,
                None,
                None,
            )
        )
        goal = None if small else 1.0
        ratio = millions / 50
        made.append(
            Row(
                f"data path, {count:,} x 50",
                "million rows/s",
                millions,
                "goal",
                50.0,
                ratio,
                goal,
                None if goal is None else ratio >= goal,
            )
        )
        del matrix, array
        path.unlink()
    ratio = seconds[0] / seconds[1]
    made.append(
        Row(
            f"data path, {sizes[0]:,} to {sizes[1]:,} rows",
            "ns a row",
            seconds[1] * 1e9,
            "ours, smallest",
            seconds[0] * 1e9,
            ratio,
        )
    )
    return made


def _through(matrix: np.ndarray, epoch: int) -> float:
    start = time.perf_counter()
    rows = 0
    for batch in batches(matrix, BlockOrder(len(matrix), block_of(matrix.shape[1]), 1, epoch), 8192):
        rows += len(batch)
    assert rows == len(matrix)
    return time.perf_counter() - start


def _copied(matrix: np.ndarray) -> float:
    start = time.perf_counter()
    for first in range(0, len(matrix), 8192):
        np.array(matrix[first : first + 8192])
    return time.perf_counter() - start


class Runs:
    """Runs of one case, each in processes of its own."""

    def __init__(self, case: Case, data: TrainingData, scratch: Path) -> None:
        self.case, self.data, self.scratch = case, data, scratch

    def __call__(self, what: str, *, threads: int, workers: int = 0, ranks: int = 1) -> dict[str, Any]:
        """Let one run, and wait for its answer."""
        print(f"  {self.case.name}: {what}, {workers} workers ...", end="", file=sys.stderr, flush=True)
        trainer = self.case.trainer.model_copy(update={"workers": ranks})
        found = _answer(self._start(what, trainer, {"threads": threads, "workers": workers}))
        print(f" {found.get('rows_per_second', 0):,.0f} rows/s", file=sys.stderr, flush=True)
        return found

    def beside(self, way: str) -> dict[str, Any]:
        """Two bare loops at the same time, each with half of each batch; see ``bare`` for the ways."""
        print(f"  {self.case.name}: two bare loops {way} ...", end="", file=sys.stderr, flush=True)
        place = Path(tempfile.mkdtemp(prefix="beside-", dir=self.scratch)) / "meeting"
        shares = [{"way": way, "index": index, "meet_at": str(place)} for index in range(LOOPS)]
        order = {"threads": 1, "workers": 0}
        started = [self._start("bare", self.case.trainer, {**order, "share": share}) for share in shares]
        found = [_answer(one) for one in started]
        rate = sum(one["rows_per_second"] for one in found)
        print(f" {rate:,.0f} rows/s", file=sys.stderr, flush=True)
        answer = {"rows_per_second": rate, "us_a_row": sum(one["us_a_row"] for one in found) / LOOPS}
        if way == DISTRIBUTED:  # the others learn each for itself
            answer["losses"] = {
                step: sum(one["losses"][step] for one in found) / LOOPS for step in found[0]["losses"]
            }
        return answer

    def _start(
        self, what: str, trainer: Torch, order: Mapping[str, Any]
    ) -> tuple[subprocess.Popen[bytes], Path]:
        folder = Path(tempfile.mkdtemp(prefix="steps-", dir=self.scratch))
        shards = {part: [str(path) for path in paths] for part, paths in self.data.shards.items()}
        file = folder / "order.json"
        file.write_text(
            json.dumps(
                {
                    "what": what,
                    "trainer": trainer.canonical_json().decode(),
                    "shards": shards,
                    "features": self.data.features,
                    "cache": str(self.scratch / "cache"),
                    **order,
                }
            )
        )
        (self.scratch / "cache").mkdir(exist_ok=True)
        environment = {**os.environ, **WORKER_ENVIRONMENT}  # a bare loop has what a worker has
        with (folder / "log.txt").open("wb") as log:
            command = [sys.executable, "-m", "benchmarks.train.stepping", str(file)]
            return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment), folder


def _answer(started: tuple[subprocess.Popen[bytes], Path]) -> dict[str, Any]:
    process, folder = started
    try:
        process.wait(600)
    finally:
        process.kill()
    if process.returncode:
        lines = (folder / "log.txt").read_text(errors="replace").strip().splitlines()
        raise SystemExit(f"{lines[-1] if lines else 'a loop ended without a word'} ({folder})")
    found: dict[str, Any] = json.loads((folder / "answer.json").read_text())
    return found


def _faster(
    case: str, ours: Mapping[str, Any], peer: str, theirs: Mapping[str, Any], *, goal: float | None
) -> Row:
    learned = last_losses(ours["losses"], theirs["losses"]) if "losses" in theirs else None
    equal = None if learned is None else abs(learned[0] / learned[1] - 1) <= MOST_LOSS
    ratio = None if equal is False else ours["rows_per_second"] / theirs["rows_per_second"]
    holds = None if goal is None else ratio is not None and ratio >= goal
    note = f"CPU us a row {ours['us_a_row']:.1f} and {theirs['us_a_row']:.1f}"
    if learned is not None:
        note += f", loss {learned[0]:.4f} and {learned[1]:.4f}"
    return Row(
        case,
        "rows/s",
        ours["rows_per_second"],
        peer,
        theirs["rows_per_second"],
        ratio,
        goal,
        holds,
        equal,
        note,
    )


def _less(case: str, metric: str, ours: float, most: float, small: bool) -> Row:
    ratio = most / ours if ours else float("inf")
    goal = None if small else 1.0
    return Row(case, metric, ours, "goal", most, ratio, goal, None if goal is None else ratio >= goal)
