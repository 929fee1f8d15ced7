"""A small world put into files, and the plan that asks for all of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    return with_source(history, path=path)


def with_source(history: History, **update: Any) -> History:
    """Return the world with its source declared otherwise."""
    source = history.view.source.model_copy(update=update)
    return replace(history, view=history.view.model_copy(update={"source": source}))


def plan_of(view: FeatureView, clock: str) -> RetrievalPlan:
    """Return the plan for all features of a view under a clock."""
    return RetrievalPlan(reads=(read_under(view, clock),), on_demand=(), columns=view.feature_names)
