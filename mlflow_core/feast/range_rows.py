"""Entity rows for a caller who gives a range of times instead: one for each time at which an entity had an event."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from feast.feature_view import FeatureView as FeastView

from mlflow_core.algebra.types import TIME
from mlflow_core.errors import UsageError
from mlflow_core.feast.entity_rows import EVENT_TIMESTAMP
from mlflow_core.plan.from_feast import read_of
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.sources import read_table

__all__ = ["rows_in_range"]


def rows_in_range(
    feature_views: Sequence[FeastView], *, repo_path: str, start: datetime | None, end: datetime | None
) -> pa.Table:
    """List the entities and event times of some views' events, each pair once.

    Args:
        feature_views: Views of one and the same entity, with their projections.
        repo_path: Folder of the feature repository.
        start: The earliest event time; None is the first event. A naive time is UTC.
        end: The latest event time; None is now.

    Returns:
        Key columns, called as the projections call them, and ``event_timestamp``, ordered by key, then time.

    Raises:
        UsageError: The views have different keys, so there is no one list of entities.
    """
    reads = [read_of(view, (), None, False, repo_path=repo_path) for view in feature_views]
    named = [tuple(called for _, called in read.keys) for read in reads]
    for keys in named[1:]:
        if set(keys) != set(named[0]):
            raise UsageError(
                f"views of different entities ({_listed(named[0])} and {_listed(keys)}) were asked for without "
                "entity rows",
                expected="entity_df, or views of one entity",
            )
    first, last = _utc(start), _utc(end or datetime.now(UTC))
    columns = [*named[0], EVENT_TIMESTAMP]
    pairs = [_pairs(read, repo_path, first, last).select(columns) for read in reads]
    distinct = pa.concat_tables(pairs, promote_options="permissive").group_by(columns, use_threads=False)
    return distinct.aggregate([]).select(columns).sort_by([(name, "ascending") for name in columns])


def _pairs(read: ViewRead, repo_path: str, first: datetime | None, last: datetime | None) -> pa.Table:
    keys, source = read.view.keys, read.view.source
    rows = read_table(source, repo_path, [*keys, source.event_time])
    times = rows[source.event_time].cast(TIME)
    keep: Any = pc.less_equal(times, pa.scalar(last, TIME))
    if first is not None:
        keep = pc.and_(keep, pc.greater_equal(times, pa.scalar(first, TIME)))
    for key in keys:
        keep = pc.and_(keep, pc.is_valid(rows[key]))
    columns = {called: rows[key] for key, called in read.keys}
    return pa.table({**columns, EVENT_TIMESTAMP: times}).filter(keep)


def _listed(keys: tuple[str, ...]) -> str:
    return ", ".join(keys) or "no key"


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
