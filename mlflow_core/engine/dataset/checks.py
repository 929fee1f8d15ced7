"""Evaluate the checks that feature views declare, on the shards of a dataset's training part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlflow_core.plan.retrieval import RetrievalPlan, ViewRead
from mlflow_core.spec import InRange, NullRate

__all__ = ["CheckResult", "run_checks"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found.

    Attributes:
        view: The view that declares it.
        column: The dataset's column.
        check: What must hold, in words.
        found: What was measured, in words.
        severity: ``"error"`` or ``"warn"``.
        holds: Whether it holds.
    """

    view: str
    column: str
    check: str
    found: str
    severity: str
    holds: bool


def run_checks(plan: RetrievalPlan, shards: Sequence[Path]) -> tuple[CheckResult, ...]:
    """Evaluate every check on a column that the shards have.

    Args:
        plan: The retrieval that made the shards; its views carry the checks.
        shards: Parquet files of the training part.

    Returns:
        One result for each check, in the views' order.
    """
    names = set(pq.read_schema(shards[0]).names)
    wanted = [
        (read, check)
        for read in plan.reads
        for check in read.view.checks
        if check.column in read.features and read.output(check.column) in names
    ]
    columns = list(dict.fromkeys(read.output(check.column) for read, check in wanted))
    if not columns:
        return ()
    table = pa.concat_tables([pq.read_table(path, columns=columns) for path in shards])
    return tuple(_evaluate(read, check, table[read.output(check.column)]) for read, check in wanted)


def _evaluate(read: ViewRead, check: NullRate | InRange, column: pa.ChunkedArray) -> CheckResult:
    if isinstance(check, NullRate):
        rate = column.null_count / len(column) if len(column) else 0.0
        told, found, holds = f"nulls below {check.below:g}", f"{rate:.4f}", rate < check.below
    else:
        extremes = pc.min_max(column)
        low, high = extremes["min"].as_py(), extremes["max"].as_py()
        told = f"from {_limit(check.at_least)} to {_limit(check.at_most)}"
        found = "no values" if low is None else f"{low:g} to {high:g}"
        holds = low is None or (
            (check.at_least is None or low >= check.at_least)
            and (check.at_most is None or high <= check.at_most)
        )
    return CheckResult(
        view=read.view.name,
        column=read.output(check.column),
        check=told,
        found=found,
        severity=check.severity,
        holds=bool(holds),
    )


def _limit(value: float | None) -> str:
    return "anything" if value is None else f"{value:g}"
