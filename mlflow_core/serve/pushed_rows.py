"""The body of a push, read and checked: rows or columns of JSON, or an Arrow stream, as a table that can be stored.

Every column of a view has to be there, as a whole row replaces the row before; null says that a value is not known.
Whatever is wrong is refused by name and row, and then nothing at all is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_core.algebra.types import arrow_type
from mlflow_core.online.codec import microseconds
from mlflow_core.online.write import CREATED, EVENT_TIME
from mlflow_core.serve.messages import json_object
from mlflow_core.serve.push_targets import PushTarget
from mlflow_core.serve.refusal import Refusal, unknown
from mlflow_core.serve.request import mistyped
from mlflow_core.serve.wire import column_reader
from mlflow_core.spec import DType

__all__ = ["FeastPush", "Pushed", "feast_push", "pushed_of_arrow", "pushed_of_json", "table_for"]

_FIELDS = ("rows", "df")
_EXAMPLE = '{"rows": [{"column": value, ...}, ...]} or {"df": {"column": [value, ...], ...}}'


@dataclass(frozen=True)
class Pushed:
    """What a caller pushes.

    Attributes:
        columns: JSON values by column, or an Arrow table.
        n_rows: How many rows there are.
        read: Columns that have been read, by name and type: the views of one source share most of them.
    """

    columns: Mapping[str, Sequence[Any]] | pa.Table
    n_rows: int
    read: dict[tuple[str, DType], pa.Array] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        columns: Any = self.columns
        return tuple(columns.column_names if isinstance(columns, pa.Table) else columns)


@dataclass(frozen=True)
class FeastPush:
    """The body of Feast's own push.

    Attributes:
        source: The push source.
        pushed: The rows.
    """

    source: str
    pushed: Pushed


def pushed_of_json(body: bytes) -> Pushed:
    """Read a push in JSON.

    Raises:
        Refusal: It is no JSON (400), or not of the form (422).
    """
    given = json_object(body, _EXAMPLE)
    for name in given:
        if name not in _FIELDS:
            raise unknown(f'the body has a field "{name}", which nothing reads', name, _FIELDS, status=422)
    if len(given) != 1:
        raise Refusal('the body needs either "rows" or "df"', expected=_EXAMPLE)
    return _of_columns(given["df"]) if "df" in given else _of_rows(given["rows"])


def feast_push(body: bytes) -> FeastPush:
    """Read what Feast's clients send to ``/push``; further fields, which Feast has too, change nothing here.

    Raises:
        Refusal: It is no JSON (400), not of the form (422), or asks for rows to be kept offline (422).
    """
    given = json_object(body, _EXAMPLE)
    source, to = given.get("push_source_name"), given.get("to", "online")
    if not isinstance(source, str):
        raise Refusal('field "push_source_name" is missing or no text', name="push_source_name")
    if to != "online":
        raise Refusal(
            f'"to" is {to!r}, and this server writes to the online store only',
            name="to",
            expected='"online"',
            hint="Append what shall be kept offline to the source itself.",
        )
    return FeastPush(source, _of_columns(given.get("df")))


def pushed_of_arrow(body: bytes) -> Pushed:
    """Read a push that is an Arrow IPC stream.

    Raises:
        Refusal: The stream is truncated or damaged (400).
    """
    try:
        table = pa.ipc.open_stream(body).read_all()
        table.validate(full=True)
    except (pa.ArrowInvalid, pa.ArrowSerializationError, OSError) as error:
        raise Refusal(f"the body is no whole Arrow stream: {error}", status=400) from None
    for name in table.column_names:
        if table.column_names.count(name) > 1:
            raise Refusal(f'the stream has two columns "{name}"', name=name)
    return Pushed(table, table.num_rows)


def table_for(target: PushTarget, pushed: Pushed) -> pa.Table:
    """Return pushed rows as a table that ``online.write.packed_rows`` takes.

    Args:
        target: The view; columns that are not its own are left out.
        pushed: The rows.

    Raises:
        Refusal: A column is missing, a value not of its type, or a key or event time null.
    """
    given = {target.renamed.get(name, name): name for name in pushed.names}
    columns: dict[str, pa.Array] = {}
    for name, dtype in target.columns.items():
        if name not in given:
            raise _missing(target, name, dtype, pushed.names)
        columns[name] = _arrow(given[name], dtype, pushed)
    for name in (*target.view.keys, target.event_time):
        if columns[name].null_count:
            row = int(np.argmax(columns[name].is_null().to_numpy(zero_copy_only=False)))
            what = "event time" if name == target.event_time else "key"
            raise Refusal(f'row {row}: {what} "{given[name]}" is null', name=given[name], expected="a value")
    times = {EVENT_TIME: columns[target.event_time]}
    if target.created is not None:
        times[CREATED] = columns[target.created]
    stored = {name: columns[name] for name in (*target.view.keys, *target.view.feature_names)}
    return pa.table({**stored, **times})


def _of_columns(given: Any) -> Pushed:
    if not isinstance(given, dict) or not all(isinstance(values, list) for values in given.values()):
        raise Refusal('field "df" is no object of lists', name="df", expected=_EXAMPLE)
    lengths = {name: len(values) for name, values in given.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise Refusal(f"the columns have different lengths: {told}", name="df")
    return Pushed(given, next(iter(lengths.values()), 0))


def _of_rows(given: Any) -> Pushed:
    if not isinstance(given, list) or not all(isinstance(row, dict) for row in given):
        raise Refusal('field "rows" is no list of objects', name="rows", expected=_EXAMPLE)
    names = tuple(dict.fromkeys(name for row in given for name in row))
    for i, row in enumerate(given):
        if len(row) < len(names):
            lacking = next(name for name in names if name not in row)
            raise Refusal(
                f'row {i}: "{lacking}" is missing, which other rows have',
                name=lacking,
                expected="a value, or null where it is not known",
            )
    return Pushed({name: [row[name] for row in given] for name in names}, len(given))


def _arrow(name: str, dtype: DType, pushed: Pushed) -> pa.Array:
    found = pushed.read.get((name, dtype))
    if found is None:
        values: Any = pushed.columns[name]
        of_arrow = isinstance(values, pa.ChunkedArray)
        found = _cast(name, dtype, values.combine_chunks()) if of_arrow else _read(name, dtype, values)
        pushed.read[name, dtype] = found
    return found


def _read(name: str, dtype: DType, values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(column_reader(dtype)(values), arrow_type(dtype))
    except (ValueError, OverflowError):
        raise mistyped(name, dtype, values) from None


def _cast(name: str, dtype: DType, values: pa.Array) -> pa.Array:
    wanted = arrow_type(dtype)
    if values.type == wanted:
        return values
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    try:
        if _is_another_kind(values.type, wanted):
            raise pa.ArrowInvalid("another kind of value")
        if dtype is DType.TIMESTAMP and pa.types.is_timestamp(values.type):
            return microseconds(values).cast(wanted)
        return pc.cast(values, wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise Refusal(f'"{name}" is {values.type}: {error}', name=name, expected=str(dtype)) from None


def _is_another_kind(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Say whether Arrow's cast would read or spell values instead of keeping them, such as "1" for 1."""
    spelled = pa.types.is_string(given) or pa.types.is_large_string(given)
    text = pa.types.is_string(wanted)
    if pa.types.is_null(given):
        return False
    if pa.types.is_list(given) and pa.types.is_list(wanted):
        return _is_another_kind(given.value_type, wanted.value_type)
    if pa.types.is_boolean(given) != pa.types.is_boolean(wanted):
        return True
    return bool(spelled != text)


def _missing(target: PushTarget, name: str, dtype: DType, names: Sequence[str]) -> Refusal:
    kind = (
        "key column"
        if name in target.view.keys
        else "event time"
        if name == target.event_time
        else "created time"
        if name == target.created
        else "feature"
    )
    shown = next((one for one, other in target.renamed.items() if other == name), name)
    return Refusal(
        f'{kind} "{shown}" of feature view "{target.view.name}" is missing',
        name=shown,
        expected=f"{dtype}; null where it is not known" if kind == "feature" else str(dtype),
        hint=f"Given: {', '.join(sorted(names)) or 'nothing'}.",
    )
