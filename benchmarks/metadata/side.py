"""What both sides do, in a process of their own: write runs, or ask about many. Needs SQLAlchemy, which both have.

A side is a module with a function that opens its store. What it answers goes to a file as JSON: seconds, and the values
that were read, which must be the same on both sides before any seconds are looked at.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from sqlalchemy import event
from sqlalchemy.pool import Pool

from benchmarks.metadata.data import GivenRun, given_run

__all__ = ["DURABILITIES", "Side", "Writing", "run_side"]

DURABILITIES = {"wal": ("WAL", 1, "NORMAL"), "rollback": ("DELETE", 2, "FULL")}
"""Name -> journal mode, and how much is waited for: ours as it comes, and MLflow's as it comes."""

WARM_UP = 2
ASKED = 9


class Writing(Protocol):
    """What can write runs, by its own public calls."""

    def write_steps(self, run: GivenRun) -> str:
        """Write a run: its params, then each step's metrics in a call of their own. Returns its id."""

    def write_batch(self, run: GivenRun) -> str:
        """Write a run with all its metrics in one call. Returns its id."""

    def write_told(self, run: GivenRun) -> str:
        """Write a run: its params, then each step told by itself, to be written within a second. Returns its id, once all
        of it is written."""

    def read(self, run_id: str) -> Any:
        """Read a run back: its params, and each metric's values by step."""


class Side(Writing, Protocol):
    """One store, by its own public calls; ``fill`` alone may write rows in bulk."""

    def fill(self, count: int, n_steps: int) -> None:
        """Put many runs there."""

    def newest(self) -> Any:
        """List the newest runs: number, params, last metrics."""

    def of_pipeline(self) -> Any:
        """List the newest runs of one pipeline."""

    def filtered(self) -> Any:
        """List the runs that the filter finds, in its order."""

    def compared(self, count: int) -> Any:
        """Read two runs with the whole history of their metrics."""


def run_side(opened: Callable[[Path], Any]) -> None:
    """Do what the command line says: a JSON object, and the file for the answer."""
    asked, answer = json.loads(sys.argv[1]), Path(sys.argv[2])
    durability = asked.get("durability")
    if durability:
        _promise(*DURABILITIES[durability][:2])
    side = opened(Path(asked["database"]))
    done = _written(side, asked) if asked["do"] == "write" else _asked(side, asked)
    answer.write_text(json.dumps(done))


def _promise(journal: str, synchronous: int) -> None:
    """Give every connection of this process the same settings, whoever opens it."""

    def set_up(connection: sqlite3.Connection, *_: object) -> None:
        # Twice as cheap as setting it each time; a setting inside of a transaction would be ignored.
        if connection.execute("PRAGMA synchronous").fetchone()[0] != synchronous:
            connection.execute(f"PRAGMA synchronous={synchronous}")
        if connection.execute("PRAGMA journal_mode").fetchone()[0].upper() != journal:
            connection.execute(f"PRAGMA journal_mode={journal}")

    event.listen(Pool, "checkout", set_up)


def _written(side: Writing, asked: Mapping[str, Any]) -> dict[str, Any]:
    ways = {"steps": side.write_steps, "batch": side.write_batch, "told": side.write_told}
    write = ways[asked["way"]]
    taken, ids = [], []
    for number in range(asked["runs"] + WARM_UP):
        run = given_run(number, asked["steps"])
        start = time.perf_counter()
        ids.append(write(run))
        taken.append(time.perf_counter() - start)
    values = [side.read(run_id) for run_id in ids]
    return {"seconds": median(taken[WARM_UP:]), "values": digest(values)}


def _asked(side: Side, asked: Mapping[str, Any]) -> dict[str, Any]:
    start = time.perf_counter()
    side.fill(asked["runs"], asked["steps"])
    done: dict[str, Any] = {"filled": time.perf_counter() - start}
    questions: dict[str, Callable[[], Any]] = {
        "list": side.newest,
        "list of a pipeline": side.of_pipeline,
        "filter": side.filtered,
        "compare": lambda: side.compared(asked["runs"]),
    }
    for name, question in questions.items():
        values, taken = question(), []
        for _ in range(ASKED):
            start = time.perf_counter()
            question()
            taken.append(time.perf_counter() - start)
        done[name] = {"seconds": median(taken), "values": digest(values), "rows": len(values)}
    return done


def digest(values: Any) -> str:
    """Return a digest of values: what must be equal is too long to be handed over."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
