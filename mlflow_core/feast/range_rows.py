"""Entity rows for a caller who gives a range of times instead: one for each time at which an entity had an event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from feast.feature_view import FeatureView as FeastView

from mlflow_core.algebra.types import TIME
from mlflow_core.engine.events.erasing import without_erased
from mlflow_core.errors import UsageError
from mlflow_core.feast.entity_rows import EVENT_TIMESTAMP, EntityRows
from mlflow_core.plan.erasures import Erasures
from mlflow_core.plan.from_feast import read_of
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.sources import SourceListing, open_source

__all__ = ["rows_in_range"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rows_in_range(
    feature_views: Sequence[FeastView],
    *,
    repo_path: str,
    start: datetime | None,
    end: datetime | None,
    erasures: Callable[[], Erasures],
) -> EntityRows:
    """List the entities and event times of some views' events, each pair once.

    Args:
        feature_views: Views of one and the same entity, with their projections.
        repo_path: Folder of the feature repository.
        start: The earliest event time; None is the first event. A naive time is UTC.
        end: The latest event time; None is the time of this call.
        erasures: Says what was erased by the time that the rows are read; it is not among them.

    Returns:
        Key columns, called as the projections call them, and ``event_timestamp``, ordered by key, then time. The
        sources are looked at, and not read before somebody needs the rows.

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
    listings = [open_source(read.view.source, repo_path) for read in reads]
    first, last = _utc(start), _utc(end or datetime.now(UTC))
    columns = [*named[0], EVENT_TIMESTAMP]

    def distinct(pairs: Sequence[pa.Table]) -> pa.Table:
        every = pa.concat_tables([one.select(columns) for one in pairs], promote_options="permissive")
        found = every.group_by(columns, use_threads=False).aggregate([]).select(columns)
        return found.sort_by([(name, "ascending") for name in columns])

    def rows() -> pa.Table:
        gone = erasures()
        both = list(zip((read.without(gone) for read in reads), listings, strict=True))
        return distinct([_pairs(read, listing, first, last) for read, listing in both])

    none = [_none(read, listing) for read, listing in zip(reads, listings, strict=True)]
    return EntityRows(distinct(none).schema, rows)


def _none(read: ViewRead, listing: SourceListing) -> pa.Table:
    kinds = {called: listing.schema.field(key).type for key, called in read.keys}
    return pa.schema({**kinds, EVENT_TIMESTAMP: TIME}).empty_table()


def _pairs(read: ViewRead, listing: SourceListing, first: datetime | None, last: datetime | None) -> pa.Table:
    keys, source = read.view.keys, read.view.source
    found = listing.read([*keys, source.event_time], (_microseconds(first), _microseconds(last)))
    rows = without_erased(found, source, read.erased)
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


def _microseconds(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
