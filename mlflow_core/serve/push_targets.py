"""Which views a push goes to: those of the registry whose stream source is a push source of that name, as in Feast.

Only latest values that are versioned by their own event's time can be pushed. A window is computed from all of its
events, and a value that corrections may change is versioned by the boundary it was computed for: such views change by
materialisation alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from feast.protos.feast.core.DataSource_pb2 import DataSource

from mlflow_core.algebra.types import dtype_of_arrow
from mlflow_core.errors import MlcoreError
from mlflow_core.online.layout import versioned_by_boundary
from mlflow_core.serve.catalogue import Catalogue
from mlflow_core.serve.refusal import Refusal, unknown
from mlflow_core.spec import DType, FeatureView

__all__ = ["PushTarget", "push_sources", "push_targets"]


@dataclass(frozen=True)
class PushTarget:
    """A view that rows can be pushed to.

    Attributes:
        view: The view.
        schema: Its key columns and features with their types.
        event_time: The column with the time of a row's event.
        created: The column that orders rows of one time, or None.
        renamed: Columns of the source that have another name in the view -> that name.
    """

    view: FeatureView
    schema: pa.Schema
    event_time: str
    created: str | None
    renamed: Mapping[str, str]

    @property
    def columns(self) -> dict[str, DType]:
        """Every column that a pushed row has, under the name it has in the view, with its type."""
        names = (*self.view.keys, *self.view.feature_names)
        times = [self.event_time] if self.created is None else [self.event_time, self.created]
        typed = {name: dtype_of_arrow(name, self.schema.field(name).type) for name in names}
        return {**typed, **dict.fromkeys(times, DType.TIMESTAMP)}


def push_sources(catalogue: Catalogue) -> list[str]:
    """Return the names of the push sources that a view has, sorted."""
    messages = catalogue.snapshot.views.values()
    return sorted({one.spec.stream_source.name for one in messages if _is_pushed(one)})


def push_targets(catalogue: Catalogue, source: str) -> list[PushTarget]:
    """Return the views of a push source, by name.

    Args:
        catalogue: What is served.
        source: The push source.

    Raises:
        Refusal: No view has such a source (404), one cannot be pushed to (422), or cannot be served now (503).
    """
    found = [
        name
        for name, one in sorted(catalogue.snapshot.views.items())
        if _is_pushed(one) and one.spec.stream_source.name == source
    ]
    if not found:
        raise unknown(f'there is no push source "{source}"', source, push_sources(catalogue), status=404)
    return [_target(catalogue, name) for name in found]


def _is_pushed(message: Any) -> bool:
    spec = message.spec
    return bool(spec.HasField("stream_source") and spec.stream_source.type == DataSource.PUSH_SOURCE)


def _target(catalogue: Catalogue, name: str) -> PushTarget:
    try:
        view, schema = catalogue.view(name)
    except MlcoreError as error:
        raise Refusal(f'feature view "{name}" cannot be served: {error}', status=503, name=name) from error
    if versioned_by_boundary(view):
        what = "windows" if view.windows else "values that corrections can change"
        raise Refusal(
            f'feature view "{name}" has {what}, which are computed by materialisation and cannot be pushed',
            name=name,
            hint="Run: mlcore materialize.",
        )
    source = catalogue.snapshot.views[name].spec.batch_source
    return PushTarget(
        view,
        schema,
        source.timestamp_field or view.source.event_time,
        source.created_timestamp_column or None,
        dict(source.field_mapping),
    )
