"""One online request as Feast asks it: resolved by Feast's registry, answered by ``online.answer``.

Feast resolves references, services, aliases and permissions; values, statuses, TTL and our on-demand features
are the shared reader's. Native on-demand views are computed by Feast on the response. The response lists entity
columns first, then features in the order they were asked for, whatever PYTHONHASHSEED is.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pyarrow as pa
from feast import FeatureService, utils
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value
from feast.value_type import ValueType

from mlflow_core.algebra.types import dtype_of_arrow
from mlflow_core.errors import ServeError
from mlflow_core.feast.stored_view import read_of_stored, schema_of_stored
from mlflow_core.feast.values import dtype_of_feast, from_value, to_value
from mlflow_core.online.answer import Answer
from mlflow_core.online.entity_rows import checked_columns
from mlflow_core.plan.from_feast import on_demand_of
from mlflow_core.plan.retrieval import OnDemandRead, RetrievalPlan
from mlflow_core.spec import DType

__all__ = ["OnlineRequest", "columns_of", "feasts_resolution", "resolve", "response_proto", "tell_apart"]

EntityRows = list[dict[str, Any]] | Mapping[str, Sequence[Any] | RepeatedValue]


@dataclass(frozen=True)
class OnlineRequest:
    """What Feast's registry made of a request.

    Attributes:
        plan: Reads of stored views and our own on-demand features.
        schemas: Types by view.
        columns: Output columns in the order they were asked for.
        tables: Feast's views with the features read of each.
        references: Feature references, ``view:feature``.
        native: Native on-demand views that Feast computes.
        request_data: Types of the native ones' request fields by name.
        entity_names: Entity name -> join key, for callers that still send entity names.
        full_feature_names: Whether output columns carry their view.
    """

    plan: RetrievalPlan
    schemas: Mapping[str, pa.Schema]
    columns: tuple[str, ...]
    tables: tuple[tuple[Any, tuple[str, ...]], ...]
    references: tuple[str, ...]
    native: tuple[Any, ...]
    request_data: Mapping[str, DType]
    entity_names: Mapping[str, str]
    full_feature_names: bool

    @property
    def key_types(self) -> dict[str, DType]:
        """Types of the entity rows' key columns by name."""
        return {
            column: dtype_of_arrow(key, self.schemas[read.view.name].field(key).type)
            for read in self.plan.reads
            for key, column in read.keys
        }

    @property
    def feature_types(self) -> dict[str, ValueType]:
        """Feast's types of the stored features by name, with and without their view's."""
        types: dict[str, ValueType] = {}
        for table, features in self.tables:
            for field in table.features:
                if field.name in features:
                    types[field.name] = field.dtype.to_value_type()
                    types[f"{table.projection.name_to_use()}__{field.name}"] = types[field.name]
        return types

    @property
    def needed(self) -> tuple[str, ...]:
        """The entity rows' columns that the request cannot do without."""
        ours = [name for one in self.plan.on_demand for name in one.on_demand.request]
        return tuple(dict.fromkeys([*self.key_types, *ours, *self.request_data]))


def feasts_resolution(
    features: list[str] | FeatureService, registry: Any, project: str, full_feature_names: bool
) -> tuple[Any, ...]:
    """Return Feast's own resolution of a request; the same object for as long as its registry stays as it is.

    Args:
        features: References ``view:feature``, or a feature service.
        registry: Feast's registry.
        project: The project's name.
        full_feature_names: Call output columns ``{view}__{feature}``.

    Raises:
        FeastError: A name that the registry does not know, as Feast says it.
    """
    tell_apart(registry)
    found: tuple[Any, ...] = utils._get_cached_request_context(
        registry, project, features, full_feature_names
    )
    return found


def resolve(resolution: tuple[Any, ...], full_feature_names: bool) -> OnlineRequest:
    """Make a request of what Feast's registry made of it.

    Args:
        resolution: What ``feasts_resolution`` returned.
        full_feature_names: Call output columns ``{view}__{feature}``.

    Raises:
        StoreError: A view with a type that cannot be stored.
    """
    references, on_demand, entity_names, _, _, grouped, _, _, _ = resolution
    tables = tuple((table, tuple(wanted)) for table, wanted in grouped)
    computed = [one for one in on_demand if not one.write_to_online_store]
    ours = {one.name: declared for one in computed if (declared := on_demand_of(one)) is not None}
    reads = tuple(read_of_stored(table, list(wanted), full_feature_names) for table, wanted in tables)
    return OnlineRequest(
        plan=RetrievalPlan(
            reads=reads,
            on_demand=tuple(
                OnDemandRead(
                    ours[one.name], _asked(one, references), _alias(one) if full_feature_names else None
                )
                for one in computed
                if one.name in ours
            ),
            columns=tuple(dict.fromkeys(read.output(name) for read in reads for name in read.features)),
        ),
        schemas={table.name: schema_of_stored(table) for table, _ in tables},
        columns=tuple(dict.fromkeys(_output(reference, full_feature_names) for reference in references)),
        tables=tables,
        references=tuple(references),
        native=tuple(one for one in computed if one.name not in ours),
        request_data={
            field.name: dtype_of_feast(field.name, field.dtype)
            for one in computed
            if one.name not in ours
            for source in one.source_request_sources.values()
            for field in source.schema
        },
        entity_names=entity_names,
        full_feature_names=full_feature_names,
    )


def tell_apart(registry: Any) -> None:
    """Give the cached registry an identity of its own.

    Feast caches what it reads from a registry by the registry's address in memory and its version, which an SQL
    registry leaves empty: after a refresh that reuses the address it would answer with former views. Whoever reads
    views with ``allow_cache=True`` after a refresh calls this first.

    Args:
        registry: Feast's registry; one without such a cache is left alone.
    """
    refresh = getattr(registry, "_refresh_cached_registry_if_necessary", None)
    if refresh is not None:
        refresh()
    cached = getattr(registry, "cached_registry_proto", None)
    # An empty registry stays as it is: Feast recognises it by that, and reads it again.
    if (
        cached is not None
        and not cached.version_id
        and (cached.feature_views or cached.on_demand_feature_views)
    ):
        cached.version_id = uuid4().hex


def columns_of(entity_rows: EntityRows, request: OnlineRequest) -> dict[str, list[Any]]:
    """Return entity rows as columns of Python values under their join keys.

    Args:
        entity_rows: A list of dicts, or columns of values, of protobuf values, or a ``RepeatedValue``.
        request: What the columns are for.

    Raises:
        ServeError: A column is missing, or the rows of a list do not all have the same columns.
    """
    if isinstance(entity_rows, list):
        columns = _transposed(entity_rows, request.needed)
    else:
        columns = {
            name: list(values.val if isinstance(values, RepeatedValue) else values)
            for name, values in entity_rows.items()
        }
    needed = set(request.needed)
    named = {_join_key(name, needed, request.entity_names): values for name, values in columns.items()}
    checked_columns(named, request.needed)
    return {
        name: [from_value(value) if isinstance(value, Value) else value for value in values]
        for name, values in named.items()
    }


def response_proto(
    request: OnlineRequest,
    answer: Answer,
    entity_rows: Mapping[str, Sequence[Any]],
    *,
    version_metadata: bool = False,
) -> GetOnlineFeaturesResponse:
    """Make Feast's message of an answer.

    Args:
        request: What was asked.
        answer: What ``online.answer`` found.
        entity_rows: As ``columns_of`` returned them.
        version_metadata: Tell each view's version.

    Returns:
        Entity columns and features; the statuses are right also for nulls, unknown keys and values too old.

    Raises:
        ServeError: A list with a null, which Feast's values cannot carry.
    """
    response = GetOnlineFeaturesResponse(results=[])
    types = request.feature_types
    keys = {name: dtype for name, dtype in request.key_types.items() if name in entity_rows}
    for name, dtype in {**keys, **request.request_data}.items():
        values = [to_value(_as_sent(value, dtype), dtype, name) for value in entity_rows[name]]
        _append(response, name, values, [FieldStatus.PRESENT] * len(values), [None] * len(values))
    for name, cells in answer.columns.items():
        dtype = dtype_of_arrow(name, answer.types[name])
        values = [to_value(value, dtype, name) for value in cells]
        if types.get(name) is ValueType.JSON:
            values = [Value(json_val=one.string_val) if one.HasField("string_val") else one for one in values]
        statuses = [FieldStatus.Value(status) for status in answer.statuses[name]]
        _append(response, name, values, statuses, answer.event_times[name])
    if request.native:
        _compute_native(response, request, types)
    if version_metadata:
        _tell_versions(response, request)
    return _in_order(response, [*keys, *request.columns])


def _asked(one: Any, references: Iterable[str]) -> tuple[str, ...]:
    parsed = [utils._parse_feature_ref(reference) for reference in references]
    return tuple(feature for view, _, feature in parsed if view == _alias(one))


def _alias(one: Any) -> str:
    return str(one.projection.name_to_use())


def _output(reference: str, full_feature_names: bool) -> str:
    view, version, feature = utils._parse_feature_ref(reference)
    if not full_feature_names:
        return str(feature)
    return f"{view}__{feature}" if version is None else f"{view}@v{version}__{feature}"


def _transposed(rows: list[dict[str, Any]], needed: Iterable[str]) -> dict[str, list[Any]]:
    if not rows:
        return {name: [] for name in needed}
    for i, row in enumerate(rows):
        if row.keys() != rows[0].keys():
            odd = sorted(row.keys() ^ rows[0].keys())
            raise ServeError(
                f'entity rows 0 and {i} do not have the same columns: "{odd[0]}" is in one of them only'
            )
    return {name: [row[name] for row in rows] for name in rows[0]}


def _join_key(name: str, needed: set[str], entity_names: Mapping[str, str]) -> str:
    if name not in needed and name in entity_names:
        # Feast's own words: whoever filters them out there does so here.
        warnings.warn("Using entity name is deprecated. Use join_key instead.", stacklevel=2)
        return entity_names[name]
    return name


def _as_sent(value: Any, dtype: DType) -> Any:
    return None if value is None or (dtype is not DType.UUID and value != value) else value


def _append(
    response: GetOnlineFeaturesResponse,
    name: str,
    values: list[Value],
    statuses: list[Any],
    event_times: Sequence[int | None],
) -> None:
    response.metadata.feature_names.val.append(name)
    vector = response.results.add(values=values, statuses=statuses)
    for us in event_times:
        seconds, rest = divmod(us or 0, 1_000_000)
        vector.event_timestamps.add(seconds=seconds, nanos=rest * 1_000)


def _compute_native(
    response: GetOnlineFeaturesResponse, request: OnlineRequest, types: dict[str, ValueType]
) -> None:
    before = len(response.results)
    utils._augment_response_with_on_demand_transforms(
        response,
        list(request.references),
        list(request.native),
        request.full_feature_names,
        feature_types=types,
    )
    for vector in response.results[before:]:
        for i, value in enumerate(vector.values):
            if value.WhichOneof("val") is None:
                vector.statuses[i] = FieldStatus.NULL_VALUE


def _tell_versions(response: GetOnlineFeaturesResponse, request: OnlineRequest) -> None:
    for name, table in {
        table.projection.name_alias or table.name: table for table, _ in request.tables
    }.items():
        told = response.metadata.feature_view_metadata.add()
        told.name = name
        told.version = getattr(table, "current_version_number", 0) or 0


def _in_order(response: GetOnlineFeaturesResponse, columns: Sequence[str]) -> GetOnlineFeaturesResponse:
    """Return the response with these columns only, in this order; what merely fed on-demand features goes."""
    at = {name: i for i, name in enumerate(response.metadata.feature_names.val)}
    kept = [name for name in dict.fromkeys(columns) if name in at]
    ordered = GetOnlineFeaturesResponse(
        metadata=response.metadata, results=[response.results[at[name]] for name in kept]
    )
    del ordered.metadata.feature_names.val[:]
    ordered.metadata.feature_names.val.extend(kept)
    return ordered
