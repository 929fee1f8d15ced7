"""A view in Feast's registry as the packed online store keeps it: its declaration and the types of its columns.

The store reads no source, so a native view needs nothing but its keys, features and TTL: stream views, views of
any source and on-demand views that Feast writes online are all latest values here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pyarrow as pa
from feast.feature_view import DUMMY_ENTITY_ID

from mlflow_core.algebra.types import arrow_type
from mlflow_core.errors import StoreError, nearest
from mlflow_core.feast.values import dtype_of_feast
from mlflow_core.online.codec import RowCodec
from mlflow_core.online.layout import codec_of
from mlflow_core.plan.from_feast import SPEC_TAG, view_of
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.spec import Duration, Entity, FeatureView, ParquetSource

__all__ = [
    "marked_as_removed",
    "read_of_stored",
    "schema_of_stored",
    "stored_codec",
    "stored_view",
    "was_unseen",
]

_REMOVED_TAG = "mlcore.removed"
_NO_SOURCE = ParquetSource(name="native", path="native", event_time="event_timestamp")


def stored_view(table: Any) -> FeatureView:
    """Return the declaration of what is stored for a view of Feast's registry.

    Args:
        table: A feast ``FeatureView`` of any kind, or an ``OnDemandFeatureView`` that is written online.
    """
    if SPEC_TAG in table.tags and not _written_on_demand(table):
        return view_of(table, repo_path="")
    keys = _keys(table)
    view = FeatureView(
        name="native",
        entity=Entity(name="native", keys=keys) if keys else None,
        source=_NO_SOURCE,
        features=tuple(field.name for field in table.features),
        ttl=_ttl(getattr(table, "ttl", None)),
    )
    # Feast allows names that we do not; a view is stored under the one it has there.
    return view.model_copy(update={"name": table.name})


def schema_of_stored(table: Any) -> pa.Schema:
    """Return the Arrow types of a view's key columns and features.

    Raises:
        StoreError: A column has a type that cannot be stored.
    """
    fields = [field for field in table.entity_columns if field.name != DUMMY_ENTITY_ID] + list(table.features)
    return pa.schema([(field.name, arrow_type(dtype_of_feast(field.name, field.dtype))) for field in fields])


def stored_codec(table: Any) -> RowCodec:
    """Return the codec of a view's stored rows."""
    return codec_of(stored_view(table), schema_of_stored(table))


def read_of_stored(table: Any, features: list[str], full_feature_names: bool) -> ViewRead:
    """Plan the online read of a view with its projection's alias and join key map.

    Args:
        table: As for ``stored_view``, with its projection.
        features: The features wanted, in any order.
        full_feature_names: Call output columns ``{view or alias}__{feature}``.

    Raises:
        StoreError: The view has no such feature.
    """
    view = stored_view(table)
    for name in features:
        if name not in view.feature_names:
            raise StoreError(
                f'has no feature "{name}"', object=view.title, hint=nearest(name, view.feature_names)
            )
    projection = table.projection
    return ViewRead(
        view=view,
        features=tuple(name for name in view.feature_names if name in set(features)),
        clock="event",
        keys=tuple((key, projection.join_key_map.get(key, key)) for key in view.keys),
        prefix=projection.name_to_use() if full_feature_names else None,
    )


def marked_as_removed(objects: Sequence[Any]) -> list[Any]:
    """Mark objects of Feast's registry that are deleted because their declarations are gone; see ``was_unseen``."""
    for one in objects:
        one.tags = {**one.tags, _REMOVED_TAG: "true"}
    return list(objects)


def was_unseen(table: Any) -> bool:
    """Say whether a view of ours is deleted by somebody who does not know our declarations, such as ``feast apply``.

    Args:
        table: A view that Feast deletes.
    """
    return SPEC_TAG in table.tags and _REMOVED_TAG not in table.tags


def _written_on_demand(table: Any) -> bool:
    return hasattr(table, "write_to_online_store")


def _keys(table: Any) -> tuple[str, ...]:
    return tuple(field.name for field in table.entity_columns if field.name != DUMMY_ENTITY_ID)


def _ttl(ttl: timedelta | None) -> Duration | None:
    return Duration(ttl) if ttl else None
