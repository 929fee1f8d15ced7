"""Which codec a feature view's stored rows have: its features' types, and what they were computed from.

Two views with the same columns but another window, condition, source column or schedule of boundaries give other
values, or give their values versions that cannot be compared with those of before: a row of the former view could
win over a newer one for ever. So what is computed, from which columns and at which boundaries, is part of the
schema hash. Where the events lie, who owns the view, TTL and checks change no stored value.
"""

from __future__ import annotations

import hashlib

import orjson
import pyarrow as pa

from mlflow_core.errors import StoreError, nearest
from mlflow_core.online.backend import OnlineTable
from mlflow_core.online.codec import RowCodec
from mlflow_core.spec import FeatureView

__all__ = ["codec_of", "definition_of", "table_of", "versioned_by_boundary"]

_KEEPS = {"column", "functions", "over", "offset", "where", "name", "boundary", "accuracy"}
_SOURCE_KEEPS = ("event_time", "known_at", "created", "event_id", "deleted", "rename")


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
    return RowCodec(
        pa.schema([schema.field(name) for name in view.feature_names]),
        definition_of(view),
        timed=versioned_by_boundary(view) and len(view.windows) < len(view.feature_names),
    )


def table_of(view: FeatureView) -> OnlineTable:
    """Return where a view's rows are."""
    return OnlineTable(view.name, tuple(view.keys))


def versioned_by_boundary(view: FeatureView) -> bool:
    """Say whether stored values carry the boundary as their version's time, else their event's time.

    They do where a value can change without a newer event: in windows, and where events can be corrected.
    """
    return bool(view.windows) or view.source.event_id is not None


def definition_of(view: FeatureView) -> str:
    """Return a digest of what a view computes, from which columns of its source, and at which boundaries."""
    features = [
        one if isinstance(one, str) else one.model_dump(mode="json", include=_KEEPS) for one in view.features
    ]
    availability = view.availability
    what = {
        "columns": view.columns,
        "features": features,
        "source": {name: getattr(view.source, name) for name in _SOURCE_KEEPS},
        "availability": None if availability is None else availability.model_dump(mode="json"),
    }
    return hashlib.sha256(orjson.dumps(what, option=orjson.OPT_SORT_KEYS)).hexdigest()
