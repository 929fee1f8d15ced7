"""The one form of a benchmark's results: rows that are printed as a table and written as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["RESULTS", "Row", "markdown", "report", "seconds"]

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        case: What was done, with its sizes.
        metric: What was measured, with its unit.
        ours: Our figure; None where we did not finish.
        peer: Who is compared.
        peer_value: Their figure; None where they did not finish.
        ratio: How many times better ours is; below 1 the peer is better. None where a figure is missing.
        goal: The ratio to reach, or None where none is set.
        holds: Whether it is reached, or None.
        equal: Whether the peer's values equalled ours; None where nothing is to be equal.
        note: What must be said with it, e.g. that a peer was ended at its time-out.
    """

    case: str
    metric: str
    ours: float | None
    peer: str
    peer_value: float | None
    ratio: float | None
    goal: float | None = None
    holds: bool | None = None
    equal: bool | None = None
    note: str = ""


def seconds(call: Callable[[], Any], *, runs: int = 3) -> tuple[float, Any]:
    """Return the median wall time of some runs after one that is not counted, and the last answer."""
    answer, taken = call(), []
    for _ in range(runs):
        start = time.perf_counter()
        answer = call()
        taken.append(time.perf_counter() - start)
    return median(taken), answer


def report(name: str, rows: Sequence[Row]) -> Path:
    """Print the rows and write ``benchmarks/results/NAME.json``.

    Returns:
        The file.
    """
    table = Table(title=name)
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column in _NUMBERS else "left")
    for row in rows:
        table.add_row(*_cells(row))
    Console(width=180).print(table)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return file


def markdown(name: str) -> str:
    """Return the results of the last run as a Markdown table.

    Raises:
        FileNotFoundError: The benchmark has not been run here.
    """
    rows = [Row(**row) for row in json.loads((RESULTS / f"{name}.json").read_text())]
    lines = [
        "| " + " | ".join(_COLUMNS) + " |",
        "|" + "|".join("---:" if column in _NUMBERS else "---" for column in _COLUMNS) + "|",
    ]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join(lines)


_COLUMNS = ("case", "metric", "ours", "peer", "peer's", "ratio", "goal", "equal", "note")
_NUMBERS = ("ours", "peer's", "ratio", "goal")


def _cells(row: Row) -> tuple[str, ...]:
    goal = "" if row.goal is None else f"{row.goal:.3g} {'holds' if row.holds else 'missed'}"
    equal = {True: "yes", False: "NO", None: ""}[row.equal]
    ours, peers, ratio = (
        "" if value is None else f"{value:.3g}" for value in (row.ours, row.peer_value, row.ratio)
    )
    return row.case, row.metric, ours, row.peer, peers, ratio, goal, equal, row.note
