"""Keys under a numbering, whatever they are: integers, strings, bytes, UUIDs.

Numbers are only good within one call. Where rows are parted over processes the numbers are ``stable_hash``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlflow_core.engine.events.arrays import codes, plain, storage
from mlflow_core.engine.kernels.ordering import hashes
from mlflow_core.engine.times import Flags, Int64
from mlflow_core.errors import SourceError, nearest
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.spec import FeatureView

__all__ = [
    "canonical",
    "check_key_types",
    "check_source",
    "hash_codes",
    "integers_of",
    "numbered",
    "places_of",
    "same_keys",
    "stable_hash",
]


def check_source(events: pa.Schema, view: FeatureView) -> None:
    """Refuse a source whose keys or identities cannot be told apart exactly.

    Args:
        events: The source's columns.
        view: Which of them are keys, and which is the event's identity.

    Raises:
        SourceError: A key column is missing; a key is no integer, string, bytes or UUID; an identity is a float (as
            decimals are inside), of which two may round to one, or nested.
    """
    for key in view.keys:
        _need(events, key, view.source.title)
        kind = events.field(key).type
        if _family(kind) in (None, "float"):
            raise SourceError(
                f'key column "{key}" holds {kind}',
                object=view.source.title,
                expected="integers, strings, bytes or UUIDs",
                hint=None if _family(kind) is None else _NO_FLOAT,
            )
    name = view.source.event_id
    if name is not None and name in events.names:
        kind = events.field(name).type
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_nested(kind):
            raise SourceError(
                f'event_id column "{name}" holds {kind}',
                object=view.source.title,
                expected="integers, strings, bytes or UUIDs",
                hint="Two identities must never round to one: store it as an integer or a string.",
            )


def check_key_types(events: pa.Schema, rows: pa.Schema, read: ViewRead) -> None:
    """Refuse entity rows whose keys cannot equal the source's.

    Args:
        events: The source's columns.
        rows: The entity rows' columns.
        read: Which of them are keys.

    Raises:
        SourceError: A key column is missing or of another type than the source's; or as ``check_source``.
    """
    check_source(events, read.view)
    for key, column in read.keys:
        _need(rows, column, "entity rows")
        ours, theirs = _family(rows.field(column).type), _family(events.field(key).type)
        if ours not in (theirs, "null"):
            raise SourceError(
                f'key column "{column}" of the entity rows holds {rows.field(column).type}, '
                f'column "{key}" of {read.view.source.title} holds {events.field(key).type}',
                object=read.view.title,
                expected="the same kind of key on both sides",
                hint="Cast the entity rows' column." if ours != "float" else _NO_FLOAT,
            )


def numbered(columns: Sequence[pa.ChunkedArray], n: int, title: str) -> tuple[Int64, int]:
    """Number keys: equal numbers for equal keys.

    Args:
        columns: The parts of the keys, (n,) each; none of them makes one key of all rows.
        n: How many keys there are.
        title: Whose keys they are, for errors.

    Returns:
        Each key's number, int64 (n,), -1 where a part is null; and what all numbers are below. There may be numbers
        that no key has.

    Raises:
        SourceError: A key does not fit the type that keys are compared in.
    """
    if len(columns) == 1:
        return _numbers(canonical(columns[0], "key", title))
    code, n_codes = np.zeros(n, np.int64), 1
    null = np.zeros(n, np.bool_)
    for column in columns:
        part, n_parts = _numbers(canonical(column, "key", title))
        null |= part < 0
        code = code * n_parts + np.maximum(part, 0)
        n_codes *= n_parts
        if n_codes > _HOLES * n:
            code = np.unique(code, return_inverse=True)[1].astype(np.int64)
            n_codes = int(code.max(initial=-1)) + 1
    code[null] = -1
    return code, n_codes


def places_of(keys: pa.Table, among: pa.Table) -> Int64:
    """Find keys among other keys, both without duplicates.

    Args:
        keys: The keys looked for, (n,).
        among: Where they are looked for, (m,), with as many columns, each of the same kind of key or null.

    Returns:
        Where each is, int64 (n,), -1 where it is not or is null.
    """
    if not keys.num_columns:
        return np.zeros(1, np.int64)
    both = []
    for ours, theirs in zip(keys.columns, among.columns, strict=True):
        there = canonical(theirs, "key", "keys")
        both.append(pa.chunked_array([there, _as(canonical(ours, "key", "keys"), there.type)], there.type))
    code, n_codes = numbered(both, among.num_rows + keys.num_rows, "keys")
    theirs, ours = code[: among.num_rows], code[among.num_rows :]
    place = np.full(n_codes + 1, -1, np.int64)
    place[theirs] = np.arange(len(theirs))
    place[-1] = -1  # nulls
    return place[ours]


def same_keys(ours: pa.Table, theirs: pa.Table, at: Int64, of: Int64) -> bool:
    """Tell whether keys are the same, pair by pair, whatever integer or string types they come in.

    Args:
        ours: Keys.
        theirs: Other keys, with as many columns, each of the same kind of key.
        at: Places of ours, none of them null, (n,).
        of: The places of theirs that they are compared with, (n,).
    """
    mine, other = integers_of(ours), integers_of(theirs)
    if mine is not None and other is not None:
        return bool((mine[0][at] == other[0][of]).all())
    ours, theirs = ours.take(pa.array(at)), theirs.take(pa.array(of))
    for one, two in zip(ours.columns, theirs.columns, strict=True):
        there = canonical(two, "key", "keys")
        equal = pc.equal(_as(canonical(one, "key", "keys"), there.type), there)
        if not pc.all(equal, min_count=0).as_py():
            return False
    return True


def hash_codes(keys: pa.Table) -> Int64:
    """Return each key's place in the order of hashes, from 0 to 2**63 - 1; int64 (n_keys,).

    Args:
        keys: Only key columns; equal keys have equal codes, whatever integer or string type they come in.
    """
    places = [str(place) for place in range(keys.num_columns)]  # two columns may have one name
    return (stable_hash(keys.rename_columns(places), places) >> np.uint64(1)).astype(np.int64)


def canonical(column: pa.ChunkedArray | pa.Array, name: str, title: str) -> pa.Array:
    """Return a key column as one array of the type that its kind of key is compared in.

    Args:
        column: Integers, strings, bytes, UUIDs, or nulls only; (n,).
        name: Its name, for errors.
        title: Whose it is, for errors.

    Raises:
        SourceError: A key does not fit that type.
    """
    array = storage(plain(column, name=name, title=title))
    wanted = _STORED.get(_family(column.type) or "")
    if wanted is None or array.type == wanted:
        return array
    try:
        return array.cast(wanted)
    except pa.ArrowInvalid as error:
        raise SourceError(
            f'key column "{name}": {error}', object=title, expected=f"keys that fit {wanted}"
        ) from None


def integers_of(keys: pa.Table) -> tuple[Int64, Flags] | None:
    """Return keys that are one integer each, 0 where null, and which are not null; None where they are others.

    Args:
        keys: Only key columns, (n_keys,).
    """
    if keys.num_columns != 1 or _family(keys.schema.types[0]) != "integer":
        return None
    column = canonical(keys.column(0), keys.column_names[0], "keys")
    valid = np.asarray(column.is_valid()) if column.null_count else np.ones(len(column), np.bool_)
    return np.array(column.fill_null(0) if column.null_count else column, np.int64), valid


def stable_hash(table: pa.Table, columns: Sequence[str]) -> NDArray[np.uint64]:
    """Hash keys alike in every process and on every run; uint64 (n,), null parts hash to a constant.

    Args:
        table: Rows with the key columns.
        columns: Their names.
    """
    integers = integers_of(table.select(columns))
    if integers is not None:
        return np.where(integers[1], hashes(integers[0]), np.uint64(0))
    from pandas.util import hash_array

    mixed = np.zeros(table.num_rows, np.uint64)
    for name in columns:
        column = canonical(table[name], name, "keys")
        if pa.types.is_null(column.type):
            column = column.cast(pa.int64())
        encoded = pc.dictionary_encode(column)
        values: Any = encoded.dictionary
        distinct = (
            np.array(values, np.int64)
            if pa.types.is_integer(values.type)
            else np.array(values.to_pylist(), dtype=object)
        )
        of_value = np.append(hash_array(distinct, categorize=False).astype(np.uint64), np.uint64(0))
        part = of_value[np.array(encoded.indices.cast(pa.int64()).fill_null(-1), np.int64)]
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + (part ^ (part >> np.uint64(29)))
    return np.asarray(mixed ^ (mixed >> np.uint64(32)), np.uint64)


_NO_FLOAT = "A float cannot be a key: cast it to an integer; missing keys stay null."
_FAMILIES: Mapping[str, Any] = {
    "null": pa.types.is_null,
    "integer": pa.types.is_integer,
    "string": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
    "bytes": lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind),
    "uuid": lambda kind: kind == pa.uuid(),
    "float": pa.types.is_floating,
}
_STORED = {"integer": pa.int64(), "string": pa.string(), "bytes": pa.binary(), "uuid": pa.binary(16)}


def _family(kind: pa.DataType) -> str | None:
    if pa.types.is_dictionary(kind):
        return _family(kind.value_type)
    if pa.types.is_fixed_size_binary(kind):
        return "bytes"
    return next((name for name, matches in _FAMILIES.items() if matches(kind)), None)


def _as(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column.cast(kind) if pa.types.is_null(column.type) else column


def _numbers(column: pa.Array | pa.ChunkedArray) -> tuple[Int64, int]:
    """Number the values of one column: integers that lie close by their distance, others by a dictionary."""
    if pa.types.is_integer(column.type) and len(column) > column.null_count:
        ends = pc.min_max(column).as_py()
        n = ends["max"] - ends["min"] + 1
        if n <= max(_HOLES * len(column), _FEW):
            nulls = column.null_count > 0
            values = (
                np.asarray(pc.fill_null(column, ends["min"]) if nulls else column, np.int64) - ends["min"]
            )
            if nulls:
                values[np.asarray(column.is_null())] = -1
            return values, n
    code = codes(column)
    return code, int(code.max(initial=-1)) + 1


_HOLES = 4  # numbers a key at most, so that tables by number stay small
_FEW = 1_000


def _need(schema: pa.Schema, column: str, title: str) -> None:
    if column not in schema.names:
        raise SourceError(f'no key column "{column}"', object=title, hint=nearest(column, schema.names))
