"""A view materialised into files, so that a test can look at the rows that a store would have been given."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mlflow_core.engine.materialise import Ask, MaterialisationReport, materialise
from mlflow_core.engine.route import Route
from mlflow_core.engine.views.changes import Since
from mlflow_core.spec import FeatureView
from mlflow_core.testing.sinks import FolderSink


@dataclass(frozen=True)
class Written:
    """All rows in no order, and the report."""

    table: pa.Table
    report: MaterialisationReport


def written(
    view: FeatureView, boundary: int, *, base: str, route: Route | None = None, since: Since | None = None
) -> Written:
    """Materialise one view; raises why it failed."""
    sink = FolderSink(Path(base) / f"written-{uuid.uuid4().hex}")
    [done] = materialise([Ask(view, boundary, sink, since)], base=base, route=route)
    if done.failure is not None:
        raise done.failure
    return Written(sink.table(), done.report)
