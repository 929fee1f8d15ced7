"""Which codec a feature view's stored rows have: its features' types, and what they were computed from.

Two views with the same columns but another window, condition or expression give other values, so the
definition of what is computed is part of the schema hash. A view of plain latest values has none beyond its
columns. Where the events lie, who owns the view, TTL, availability and checks change no stored value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import orjson
import pyarrow as pa

from mlflow_core.errors import StoreError, nearest
from mlflow_core.online.codec import RowCodec
from mlflow_core.spec import FeatureView

__all__ = ["codec_of", "definition_of"]

_KEEPS = {"column", "functions", "over", "offset", "where", "name", "boundary", "accuracy"}


def codec_of(view: FeatureView, schema: pa.Schema) -> RowCodec:
    """Return the codec of a view's stored rows.

    Args:
        view: The feature view.
        schema: Its columns by name (key columns may be among them).

    Raises:
        StoreError: A feature of the view has no type in the schema.
    """
    for name in view.feature_names:
        if name not in schema.names:
            raise StoreError(
                f'has no type for feature "{name}"', object=view.title, hint=nearest(name, schema.names)
            )
    return RowCodec(pa.schema([schema.field(name) for name in view.feature_names]), definition_of(view))


def definition_of(view: FeatureView) -> str:
    """Return a digest of what a view computes, empty for plain latest values."""
    if not view.columns and not view.windows:
        return ""
    source: Mapping[str, object] = {
        name: getattr(view.source, name)
        for name in ("event_time", "known_at", "event_id", "deleted", "rename")
    }
    what = {
        "columns": view.columns,
        "features": [
            one if isinstance(one, str) else one.model_dump(mode="json", include=_KEEPS)
            for one in view.features
        ],
        "source": source,
    }
    return hashlib.sha256(orjson.dumps(what, option=orjson.OPT_SORT_KEYS)).hexdigest()
