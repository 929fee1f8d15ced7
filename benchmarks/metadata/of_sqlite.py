"""The limit: Python's own ``sqlite3`` on bare tables, with the same calls, each a transaction, and nothing else.

It checks no value, knows no project, keeps no last metric apart and has no keys; what it takes is the disk, SQLite and
the driver. Its connections are made through SQLAlchemy's pool, which is where the promises to the disk are set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import create_engine

from benchmarks.metadata.data import GivenRun
from benchmarks.metadata.side import run_side

__all__ = ["Bare"]

_TABLES = (
    "CREATE TABLE runs (id TEXT, pipeline TEXT, state TEXT)",
    "CREATE TABLE params (run TEXT, name TEXT, value TEXT)",
    "CREATE TABLE metrics (run TEXT, name TEXT, step INTEGER, value REAL)",
)


class Bare:
    """Bare tables in one SQLite file; it only writes."""

    def __init__(self, file: Path) -> None:
        # Held on to: the pool's connection goes back when nobody does.
        self._held = create_engine(f"sqlite:///{file}").raw_connection()
        self._connection: Any = self._held.driver_connection
        self._connection.isolation_level = None
        for table in _TABLES:
            self._connection.execute(table)

    def write_steps(self, run: GivenRun) -> str:
        """Write a run, each step in a transaction of its own."""
        return self._written(run, [[number] for number in range(len(run.steps))])

    def write_batch(self, run: GivenRun) -> str:
        """Write a run, all its metrics in one transaction."""
        return self._written(run, [list(range(len(run.steps)))])

    def write_told(self, run: GivenRun) -> str:
        """The same: nothing is told to anybody."""
        return self.write_batch(run)

    def read(self, run_id: str) -> Any:
        """Read a run back."""
        history: dict[str, list[tuple[int, float]]] = {}
        asked = "SELECT name, step, value FROM metrics WHERE run = ? ORDER BY step, name"
        for name, step, value in self._connection.execute(asked, [run_id]):
            history.setdefault(name, []).append((step, value))
        params = self._connection.execute("SELECT name, value FROM params WHERE run = ?", [run_id])
        return {"params": dict(params.fetchall()), "metrics": history}

    def _written(self, run: GivenRun, batches: list[list[int]]) -> str:
        own = str(run.number)
        self._transaction("INSERT INTO runs VALUES (?, ?, ?)", [(own, run.pipeline, "running")])
        self._transaction(
            "INSERT INTO params VALUES (?, ?, ?)", [(own, name, value) for name, value in run.params.items()]
        )
        for steps in batches:
            rows = [(own, name, step, value) for step in steps for name, value in run.steps[step].items()]
            self._transaction("INSERT INTO metrics VALUES (?, ?, ?, ?)", rows)
        self._transaction("UPDATE runs SET state = ? WHERE id = ?", [("succeeded", own)])
        return own

    def _transaction(self, text: str, rows: list[tuple[Any, ...]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(text, rows)
        self._connection.execute("COMMIT")


if __name__ == "__main__":
    run_side(Bare)
