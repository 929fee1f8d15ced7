"""A small world put into files, and the plan that asks for all of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

from mlflow_core.plan.retrieval import RetrievalPlan
from mlflow_core.spec import FeatureView
from mlflow_core.testing.histories import History, read_under


def write_in_parts(history: History, folder: Path, cuts: Iterable[tuple[int, int | None]]) -> None:
    """Write the events into one file for each cut (first row, row after the last), in place of what was there."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.parquet"):
        old.unlink()
    for number, (first, last) in enumerate(cuts):
        length = None if last is None else last - first
        pq.write_table(history.events.slice(first, length), folder / f"{number:03}.parquet")


def at_path(history: History, path: str) -> History:
    """Return the world with its source at a path."""
    source = history.view.source.model_copy(update={"path": path})
    view = history.view.model_copy(update={"source": source})
    return History(view, history.events, history.rows)


def plan_of(view: FeatureView, clock: str) -> RetrievalPlan:
    """Return the plan for all features of a view under a clock."""
    return RetrievalPlan(reads=(read_under(view, clock),), on_demand=(), columns=view.feature_names)
