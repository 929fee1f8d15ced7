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

__all__ = ["RESULTS", "Row", "report", "seconds"]

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        case: What was done, with its sizes.
        metric: What was measured, with its unit.
        ours: Our figure.
        peer: Who is compared.
        peer_value: Their figure.
        ratio: How many times better ours is.
        goal: The ratio to reach, or None where none is set.
        holds: Whether it is reached, or None.
        equal: Whether the peer's values equalled ours; None where they are counted instead.
    """

    case: str
    metric: str
    ours: float
    peer: str
    peer_value: float
    ratio: float
    goal: float | None = None
    holds: bool | None = None
    equal: bool | None = None


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
    for column in ("case", "metric", "ours", "peer", "peer's", "ratio", "goal", "equal"):
        table.add_column(column, justify="right" if column in ("ours", "peer's", "ratio", "goal") else "left")
    for row in rows:
        goal = "" if row.goal is None else f"{row.goal:g} {'holds' if row.holds else 'missed'}"
        equal = {True: "yes", False: "NO", None: "counted"}[row.equal]
        table.add_row(
            row.case,
            row.metric,
            f"{row.ours:.3g}",
            row.peer,
            f"{row.peer_value:.3g}",
            f"{row.ratio:.2f}",
            goal,
            equal,
        )
    Console(width=140).print(table)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return file
