"""Rows of a source as Feast asks for them by range: all of them, or the latest of each key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL

from mlflow_core.algebra.types import TIME
from mlflow_core.engine.events.erasing import without_erased
from mlflow_core.plan.erasures import Erasures
from mlflow_core.plan.from_feast import SPEC_TAG, source_of
from mlflow_core.sources import read_table

__all__ = ["events_between", "latest_events"]


def events_between(
    data_source: DataSource,
    repo_path: str,
    join_keys: Sequence[str],
    features: Sequence[str],
    timestamp_field: str,
    created: str | None,
    start: datetime | None,
    end: datetime | None,
    erasures: Callable[[], Erasures],
) -> pa.Table:
    """Read the rows with ``start <= event time <= end`` in source order.

    Feast asks for the columns of its own sources as the file calls them and maps them itself; a name that the
    source's field mapping gives is understood too.

    Args:
        data_source: Feast's source.
        repo_path: Folder of the feature repository.
        join_keys: Key columns; none adds Feast's dummy key.
        features: Feature columns; none reads them all.
        timestamp_field: Event time column.
        created: Column of creation times, or None.
        start: Earliest event time, or None.
        end: Latest event time, or None.
        erasures: Says what was erased; rows of erased keys from before it are left out.

    Returns:
        Keys, features, event time and creation time, under the names asked for.
    """
    wanted = list(dict.fromkeys([*join_keys, *features, timestamp_field, *([created] if created else [])]))
    source = source_of(data_source, repo_path=repo_path, columns=wanted)
    if SPEC_TAG not in data_source.tags:
        mapped = {old: new for old, new in source.rename.items() if new in wanted}
        names = {"event_time": timestamp_field, "created": created, "rename": mapped}
        source = source.model_copy(update=names)
    rows = read_table(source, repo_path, wanted if features else None)
    called = {data_source.field_mapping.get(key, key): key for key in join_keys}
    rows = without_erased(rows, source, erasures().within(called).renamed(called.items()))
    times = rows[timestamp_field].cast(TIME)
    keep: Any = pc.is_valid(times)
    if start is not None:
        keep = pc.and_(keep, pc.greater_equal(times, pa.scalar(_utc(start), TIME)))
    if end is not None:
        keep = pc.and_(keep, pc.less_equal(times, pa.scalar(_utc(end), TIME)))
    rows = rows.filter(keep)
    if not join_keys:
        rows = rows.append_column(DUMMY_ENTITY_ID, pa.array([DUMMY_ENTITY_VAL] * rows.num_rows, pa.string()))
    return rows


def latest_events(
    data_source: DataSource,
    repo_path: str,
    join_keys: Sequence[str],
    features: Sequence[str],
    timestamp_field: str,
    created: str | None,
    start: datetime | None,
    end: datetime | None,
    erasures: Callable[[], Erasures],
) -> pa.Table:
    """Read the last row of each key by (event time, creation time, source order); arguments as ``events_between``.

    Rows without a key are nobody's, and left out.
    """
    rows = events_between(
        data_source, repo_path, join_keys, features, timestamp_field, created, start, end, erasures
    )
    keys = list(join_keys) or [DUMMY_ENTITY_ID]
    rows = rows.filter(reduce(pc.and_, (pc.is_valid(rows[key]) for key in keys)))
    order = "__source_order"
    numbered = rows.append_column(order, pa.array(range(rows.num_rows), pa.int64()))
    # A missing creation time is the oldest version, as the engine has it.
    by_time = [(name, "ascending", "at_start") for name in (timestamp_field, created, order) if name]
    ranked = numbered.take(pc.sort_indices(numbered, sort_keys=by_time))
    last = ranked.append_column("__rank", pa.array(range(rows.num_rows), pa.int64()))
    chosen = last.group_by(keys, use_threads=False).aggregate([("__rank", "max")])
    return ranked.take(chosen["__rank_max"]).drop_columns([order])


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
