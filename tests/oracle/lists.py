"""Which runs a list shows: every run looked at, one question after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlflow_core.metadata import Bound

__all__ = ["KnownRun", "listed"]


@dataclass(frozen=True)
class KnownRun:
    """A run, and what it left."""

    id: str
    began_us: int
    pipeline: str
    state: str
    params: Mapping[str, object]
    metrics: Mapping[str, float]


def listed(
    runs: Sequence[KnownRun],
    *,
    pipeline: str | None = None,
    state: str | None = None,
    params: Mapping[str, object] | None = None,
    metrics: Sequence[Bound] = (),
    order_by: str | None = None,
    ascending: bool = False,
    limit: int = 100,
    offset: int = 0,
) -> list[str]:
    """Return the ids of the runs for which everything asked for holds, in the list's order."""
    found = []
    for run in sorted(runs, key=lambda one: (one.began_us, one.id), reverse=True):
        holds = pipeline in (None, run.pipeline) and state in (None, run.state)
        for name, value in (params or {}).items():
            # As JSON has them: 1 is not true, and not "1".
            same = name in run.params and run.params[name] == value
            holds = holds and same and type(run.params[name]) is type(value)
        for bound in metrics:
            holds = holds and _within(run.metrics.get(bound.metric, math.nan), bound)
        if holds and (order_by is None or not math.isnan(run.metrics.get(order_by, math.nan))):
            found.append(run)
    if order_by is not None:
        found.sort(key=lambda one: one.metrics[order_by], reverse=not ascending)  # stable: the newest first
    return [run.id for run in found[offset : offset + limit]]


def _within(value: float, bound: Bound) -> bool:
    if math.isnan(value):
        return False
    return {
        ">": value > bound.value,
        ">=": value >= bound.value,
        "<": value < bound.value,
        "<=": value <= bound.value,
        "=": value == bound.value,
    }[bound.compare]
