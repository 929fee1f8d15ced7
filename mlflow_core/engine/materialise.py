"""Materialisation: a view's rows for the online store, at a boundary. Writing them is the store's business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from mlflow_core.engine.route import InProcess, Route
from mlflow_core.engine.views.snapshot import snapshot_read
from mlflow_core.spec import FeatureView
from mlflow_core.telemetry import Progress, SilentProgress

__all__ = ["MaterialisationReport", "Materialised", "materialise"]


@dataclass(frozen=True, slots=True)
class MaterialisationReport:
    """What a materialisation found.

    Attributes:
        boundary: As of when, microseconds since epoch, UTC.
        start: From when the caller wanted changes, or None.
        events: Rows of the source that were looked at.
        dropped_keys: Rows of the source left out for a null in their key.
        dropped_times: Other rows of the source left out because they have no event time.
        rows: Entities.
        nulls: Nulls by feature.
    """

    boundary: int
    start: int | None
    events: int
    dropped_keys: int
    dropped_times: int
    rows: int
    nulls: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Materialised:
    """A view at a boundary.

    Attributes:
        table: Key columns, features, and of the latest visible event its time and what orders its versions:
            ``__event_time`` and ``__created`` (``timestamp[us, UTC]``, null where corrections left none).
        report: What was found on the way.
    """

    table: pa.Table
    report: MaterialisationReport


def materialise(
    view: FeatureView,
    boundary: int,
    *,
    base: str,
    start: int | None = None,
    route: Route | None = None,
    progress: Progress | None = None,
) -> Materialised:
    """Compute a view as it stands at a boundary.

    Args:
        view: The view. With availability its values are those served from the boundary on; else those of its
            source's own clock at the boundary.
        boundary: The evaluation time, microseconds since epoch, UTC; the caller has floored it.
        base: Folder of the feature repository; relative paths start there.
        start: From when the caller wants changes. Every entity is computed all the same, which is never wrong:
            an unchanged row is written again with the same values. It is only reported.
        route: Where to compute; in this process by default.
        progress: Who is told; nobody by default.

    Returns:
        All entities of which any event was visible by the boundary, windows now empty or not. The TTL of latest
        values is not applied: it is applied when they are read.

    Raises:
        SourceError: The source cannot be read, or lacks a column.
        EngineError: A sum of integers does not fit in int64.
    """
    snapshot = (route or InProcess()).snapshot(
        snapshot_read(view), boundary, base=base, progress=progress or SilentProgress()
    )
    table = snapshot.table
    nulls = {name: table[name].null_count for name in view.feature_names}
    report = MaterialisationReport(
        boundary,
        start,
        snapshot.events,
        snapshot.dropped_keys,
        snapshot.dropped_times,
        table.num_rows,
        nulls,
    )
    return Materialised(table, report)
