"""The one reader: from entity rows to values and statuses, shared by Feast's face, the command and the server.

Its rules are those of "Latest-value views", "Window aggregates" and "What is stored online" in docs/concepts.md:
TTL counts at ``now`` and touches latest values only; an unknown (or erased) key has count 0 and null otherwise,
NOT_FOUND; a stored null is NULL_VALUE; a value that is too old is null, OUTSIDE_MAX_AGE. Answers stand in the
order of the entity rows, duplicates included, and all views are read in one round trip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import pyarrow as pa

from mlflow_core.algebra.aggregates import empty_value
from mlflow_core.algebra.on_demand import evaluate_on_demand, infer_outputs, input_names
from mlflow_core.algebra.types import arrow_type, dtype_of_arrow
from mlflow_core.errors import PlanError, ServeError, StoreError, UnknownNameError, nearest
from mlflow_core.online.backend import OnlineBackend, StoredRow
from mlflow_core.online.codec import RowCodec
from mlflow_core.online.entity_rows import checked_columns, checked_keys, request_array
from mlflow_core.online.layout import codec_of
from mlflow_core.plan.retrieval import OnDemandRead, RetrievalPlan, ViewRead
from mlflow_core.spec import DType, OnDemand

__all__ = ["Answer", "Reader", "Status", "answer"]


class Status(StrEnum):
    """What a value's presence or absence means."""

    PRESENT = "PRESENT"
    NULL_VALUE = "NULL_VALUE"
    NOT_FOUND = "NOT_FOUND"
    OUTSIDE_MAX_AGE = "OUTSIDE_MAX_AGE"


@dataclass(frozen=True, slots=True)
class Answer:
    """Values, statuses and times by output column, each of shape (n_rows,) in the order of the entity rows.

    Attributes:
        columns: Values; times are aware datetimes in UTC, maps dicts, null None.
        statuses: What each value is.
        event_times: Microseconds since epoch, UTC: of a latest value its event's time, of a window its boundary,
            None where there is none, as for on-demand features.
        types: Arrow type by output column.
    """

    columns: dict[str, list[Any]] = field(default_factory=dict)
    statuses: dict[str, list[Status]] = field(default_factory=dict)
    event_times: dict[str, list[int | None]] = field(default_factory=dict)
    types: dict[str, pa.DataType] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return the values as one dict a row."""
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]


def answer(
    plan: RetrievalPlan,
    schemas: Mapping[str, pa.Schema],
    entity_rows: Mapping[str, Sequence[Any]],
    *,
    backend: OnlineBackend,
    now_us: int,
) -> Answer:
    """Answer entity rows from the online store; ``Reader(plan, schemas).answer`` prepares a plan once.

    Args:
        plan: What is asked for.
        schemas: For each view of the plan its key columns and features with their types.
        entity_rows: Key columns and request fields by name, all of one length (0 is fine).
        backend: The online store.
        now_us: The time at which TTL counts, microseconds since epoch, UTC.

    Raises:
        ServeError: A column is missing, has another length, or a value of a type that its column cannot hold.
        UnknownNameError: An on-demand feature is asked for that its function does not return.
        StoreError: The store cannot be read, or holds rows of another definition.
    """
    return Reader(plan, schemas).answer(entity_rows, backend=backend, now_us=now_us)


class Reader:
    """A retrieval plan made ready to be answered many times; holds no connection and no clock.

    Args:
        plan: What is asked for.
        schemas: For each view of the plan its key columns and features with their types.

    Raises:
        PlanError: A view has no schema, or the plan puts out what it does not read.
        StoreError: A feature has no type.
        UnknownNameError: An on-demand feature is asked for that its function does not return.
        EngineError: An on-demand function fails.
    """

    def __init__(self, plan: RetrievalPlan, schemas: Mapping[str, pa.Schema]) -> None:
        self.plan = plan
        self._reads = [_PreparedRead(read, _schema_of(read, schemas)) for read in plan.reads]
        outputs = [read.output(name) for read in plan.reads for name in read.shown]
        for name in plan.columns:
            if name not in outputs:
                raise PlanError(
                    f'the plan puts out "{name}", which it does not read', hint=nearest(name, outputs)
                )
        self._on_demand = [_prepared_on_demand(one, self._reads) for one in plan.on_demand]

    def answer(
        self, entity_rows: Mapping[str, Sequence[Any]], *, backend: OnlineBackend, now_us: int
    ) -> Answer:
        """Answer entity rows; see ``answer``."""
        needed = [column for read in self.plan.reads for _, column in read.keys]
        needed += [name for one in self.plan.on_demand for name in one.on_demand.request]
        n_rows = checked_columns(entity_rows, needed)
        keys = [read.keys(entity_rows, n_rows) for read in self._reads]
        stored = backend.read(
            [
                (read.read.view.name, [key for key in dict.fromkeys(some) if key is not None])
                for read, some in zip(self._reads, keys, strict=True)
            ]
        )
        found = [
            read.filled(some, rows, now_us)
            for read, some, rows in zip(self._reads, keys, stored, strict=True)
        ]
        shown = Answer()
        by_output: dict[str, Answer] = {}
        for read, values in zip(self.plan.reads, found, strict=True):
            for name in read.shown:
                # Feast's callers cannot say which inputs of on-demand features are hidden; they come last.
                by_output.setdefault(read.output(name), values)
        for name in self.plan.columns:
            _copy(by_output[name], shown, name)
        for one in self._on_demand:
            _compute(one, found, shown, entity_rows)
        return shown


@dataclass(frozen=True, slots=True)
class _PreparedOnDemand:
    """On-demand features with what does not change between requests: where inputs are, and the outputs' types."""

    on_demand: OnDemand
    features: tuple[str, ...]
    prefix: str | None
    stored: tuple[tuple[int, str, str], ...]  # which read, which of its columns, the name the function knows


def _prepared_on_demand(one: OnDemandRead, reads: Sequence[_PreparedRead]) -> _PreparedOnDemand:
    names, stored, types = input_names(one.on_demand), [], {}
    for i, prepared in enumerate(reads):
        for feature, cell in zip(prepared.read.features, prepared.features, strict=True):
            name = names.get((prepared.read.view.name, feature))
            if name is not None and name not in types:
                stored.append((i, cell.column, name))
                types[name] = arrow_type(cell.dtype)
    inferred = infer_outputs(one.on_demand, types)
    outputs = {name: dtype_of_arrow(name, kind) for name, kind in inferred.items()}
    features = one.features or tuple(outputs)
    for name in features:
        if name not in outputs:
            raise UnknownNameError(
                f'returns no "{name}"', object=one.on_demand.title, hint=nearest(name, outputs)
            )
    declared = one.on_demand.model_copy(update={"outputs": outputs})
    return _PreparedOnDemand(declared, features, one.prefix, tuple(stored))


def _compute(
    one: _PreparedOnDemand, found: list[Answer], shown: Answer, entity_rows: Mapping[str, Sequence[Any]]
) -> None:
    inputs: dict[str, pa.Array] = {
        name: pa.array(found[i].columns[column], found[i].types[column]) for i, column, name in one.stored
    }
    for name, dtype in one.on_demand.request.items():
        inputs[name] = request_array(entity_rows[name], dtype, name)
    outputs = evaluate_on_demand(one.on_demand, inputs)
    for name in one.features:
        column = name if one.prefix is None else f"{one.prefix}__{name}"
        values = outputs[name].to_pylist()
        shown.columns[column] = values
        shown.statuses[column] = [Status.NULL_VALUE if value is None else Status.PRESENT for value in values]
        shown.event_times[column] = [None] * len(values)
        shown.types[column] = outputs[name].type


class _PreparedRead:
    """One view's read: its codec, the features asked for, and what an unknown key has."""

    def __init__(self, read: ViewRead, schema: pa.Schema) -> None:
        self.read = read
        self.codec: RowCodec = codec_of(read.view, schema)
        self.key_types = [(column, dtype_of_arrow(key, schema.field(key).type)) for key, column in read.keys]
        windows = {column.name: column for column in read.view.windows}
        positions = {name: i for i, name in enumerate(self.codec.names)}
        self.features = [
            _PreparedFeature(
                column=read.output(name),
                position=positions[name],
                dtype=self.codec.dtypes[positions[name]],
                window=name in windows,
                unknown=empty_value(windows[name].function) if name in windows else None,
                shown=_SHOWN.get(self.codec.dtypes[positions[name]], _same),
            )
            for name in read.features
        ]

    def keys(self, entity_rows: Mapping[str, Sequence[Any]], n_rows: int) -> list[bytes | None]:
        return checked_keys(entity_rows, self.key_types, n_rows, self.read.view.title)

    def filled(self, keys: Sequence[bytes | None], rows: Sequence[StoredRow | None], now_us: int) -> Answer:
        """Decode each stored row once, then place it at every entity row that asked for it."""
        distinct = [key for key in dict.fromkeys(keys) if key is not None]
        cells = {key: self._cells(row, now_us) for key, row in zip(distinct, rows, strict=True)}
        unknown: list[_Cell] = [(one.unknown, Status.NOT_FOUND, None) for one in self.features]
        placed = [unknown if key is None else cells[key] for key in keys]
        into = Answer()
        for i, one in enumerate(self.features):
            into.columns[one.column] = [row[i][0] for row in placed]
            into.statuses[one.column] = [row[i][1] for row in placed]
            into.event_times[one.column] = [row[i][2] for row in placed]
            into.types[one.column] = arrow_type(one.dtype)
        return into

    def _cells(self, row: StoredRow | None, now_us: int) -> list[_Cell]:
        if row is None or row.erased:
            return [(one.unknown, Status.NOT_FOUND, None) for one in self.features]
        try:
            values, event_time = self.codec.decode(row.value)
        except StoreError as error:
            raise StoreError(
                error.what, object=self.read.view.title, expected=error.expected, hint=error.hint
            ) from error
        ttl = self.read.view.ttl
        expired = ttl is not None and event_time is not None and now_us - event_time > ttl
        cells: list[_Cell] = []
        for one in self.features:
            value = values[one.position]
            time = row.time if one.window else event_time
            if expired and not one.window:
                cells.append((None, Status.OUTSIDE_MAX_AGE, time))
            elif value is None:
                cells.append((None, Status.NULL_VALUE, time))
            else:
                cells.append((one.shown(value), Status.PRESENT, time))
        return cells


_Cell = tuple[Any, Status, int | None]


@dataclass(frozen=True, slots=True)
class _PreparedFeature:
    column: str
    position: int
    dtype: DType
    window: bool
    unknown: int | None
    shown: Callable[[Any], Any]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(us: int) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=us)
    except OverflowError as error:
        raise ServeError(
            f"a stored time of {us} microseconds since the epoch is outside the years 1 to 9999"
        ) from error


def _moments(us: list[int | None]) -> list[datetime | None]:
    return [None if one is None else _moment(one) for one in us]


def _same(value: Any) -> Any:
    return value


# How decoded values are shown; every other type as it is.
_SHOWN: dict[DType, Callable[[Any], Any]] = {DType.TIMESTAMP: _moment, DType.TIMESTAMP_LIST: _moments}


def _copy(source: Answer, target: Answer, name: str) -> None:
    target.columns[name] = source.columns[name]
    target.statuses[name] = source.statuses[name]
    target.event_times[name] = source.event_times[name]
    target.types[name] = source.types[name]


def _schema_of(read: ViewRead, schemas: Mapping[str, pa.Schema]) -> pa.Schema:
    schema = schemas.get(read.view.name)
    if schema is None:
        raise PlanError(
            "has no schema", object=read.view.title, hint=f"Schemas of: {', '.join(sorted(schemas))}."
        )
    for key in read.view.keys:
        if key not in schema.names:
            raise PlanError(f'has no type for key column "{key}"', object=read.view.title)
    return schema
