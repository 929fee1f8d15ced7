"""Entity rows for a caller who gives none: every entity that had an event in a range, as of its end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
from feast.feature_view import FeatureView as FeastView

from mlflow_core.algebra.types import TIME
from mlflow_core.errors import UsageError
from mlflow_core.feast.entity_rows import EVENT_TIMESTAMP
from mlflow_core.plan.from_feast import view_of
from mlflow_core.sources import read_table
from mlflow_core.spec import FeatureView

__all__ = ["entities_at"]


def entities_at(
    feature_views: Sequence[FeastView], *, repo_path: str, start: datetime | None, end: datetime | None
) -> pa.Table:
    """List the entities of some views, each once, as of one time.

    Args:
        feature_views: Views of one and the same entity.
        repo_path: Folder of the feature repository.
        start: Only entities with an event at or after this; None takes all.
        end: As of when; entities without an event at or before it are left out.

    Returns:
        Key columns and ``event_timestamp``, ordered by key.

    Raises:
        UsageError: The views have different keys, so there is no one list of entities.
    """
    views = [view_of(view, repo_path=repo_path) for view in feature_views]
    keys = views[0].keys
    for view in views:
        if view.keys != keys:
            raise UsageError(
                f"views of different entities ({', '.join(views[0].keys)} and {', '.join(view.keys)}) were asked for "
                "without entity rows",
                expected="entity_df, or views of one entity",
            )
    until = (end or datetime.now(UTC)).replace(tzinfo=UTC) if end is None or end.tzinfo is None else end
    if not keys:
        return pa.table({EVENT_TIMESTAMP: pa.array([until], TIME)})
    found = pa.concat_tables(
        [_keys(view, repo_path, start, until) for view in views], promote_options="permissive"
    )
    entities = found.group_by(list(keys), use_threads=False).aggregate([])
    entities = entities.sort_by([(key, "ascending") for key in keys])
    return entities.append_column(EVENT_TIMESTAMP, pa.array([until] * entities.num_rows, TIME))


def _keys(view: FeatureView, repo_path: str, start: datetime | None, end: datetime) -> pa.Table:
    rows = read_table(view.source, repo_path, [*view.keys, view.source.event_time])
    times = rows[view.source.event_time].cast(TIME)
    keep = pc.less_equal(times, pa.scalar(end, TIME))
    if start is not None:
        since = start.replace(tzinfo=UTC) if start.tzinfo is None else start
        keep = pc.and_(keep, pc.greater_equal(times, pa.scalar(since, TIME)))
    for key in view.keys:
        keep = pc.and_(keep, pc.is_valid(rows[key]))
    return rows.filter(keep).select(list(view.keys))
