"""One stored value: all features of one view for one key, packed into bytes that say how to read them.

Layout, little-endian, no padding::

    version   1 byte   this layout
    kind      1 byte   row, tile, chunk or tombstone
    schema    8 bytes  start of the SHA-256 of names, types and definition
    event     8 bytes  microseconds since epoch, UTC, of the latest-value event; the least int64 for none
    nulls     1 bit a feature, least significant first, 1 = null
    fixed     each feature's value in order; for a feature of varying length the offset of its end (uint32)
    varying   the bytes of those features, in order

The fixed part decodes with one ``struct.Struct``, and a block of rows is one numpy record array when it is
written. A reader that meets another version or schema says so and never guesses. Not here: who is stored under
which key (``keys``), versions and atomicity (``backend``), what a missing value means (``answer``).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_core.algebra.types import arrow_type, dtype_of_arrow
from mlflow_core.errors import StoreError
from mlflow_core.online.varying import VARYING, decode_varying, encode_varying
from mlflow_core.spec import DType

__all__ = [
    "SCHEMA_AT",
    "TOMBSTONE",
    "VERSION",
    "Kind",
    "Row",
    "RowCodec",
    "is_tombstone",
    "microseconds",
    "schema_of",
]

VERSION = 1
SCHEMA_AT = slice(2, 10)
_HEADER = struct.Struct("<BB8sq")
_NO_EVENT = -(2**63)


class Kind(IntEnum):
    """What a stored value is."""

    ROW = 1
    TILE = 2
    CHUNK = 3
    TOMBSTONE = 4


TOMBSTONE = bytes([VERSION, Kind.TOMBSTONE])

# struct code and numpy type of what stands in the fixed part
_FIXED: dict[DType, tuple[str, str]] = {
    DType.BOOL: ("?", "?"),
    DType.INT64: ("q", "<i8"),
    DType.INT32: ("i", "<i4"),
    DType.FLOAT64: ("d", "<f8"),
    DType.FLOAT32: ("f", "<f4"),
    DType.TIMESTAMP: ("q", "<i8"),
    DType.UUID: ("16s", "V16"),
}
_OFFSET = ("I", "<u4")


class Row(NamedTuple):
    """A decoded value.

    Attributes:
        values: The features in the codec's order: bool, int, float, str, bytes, ``UUID``, lists of these, dicts
            of strings; times as int microseconds since epoch, UTC; None for null.
        event_time: Time of the latest-value event (microseconds since epoch, UTC), or None.
    """

    values: tuple[Any, ...]
    event_time: int | None


class RowCodec:
    """Packs the features of one view and reads them back.

    Args:
        schema: The features in order, without keys.
        definition: What else a stored value depends on, e.g. the windows it was computed over: values of one
            definition are not read as another's.

    Raises:
        SourceError: A column has a type that no feature can have.

    Example:
        >>> codec = RowCodec(pa.schema([("mean", pa.float64()), ("last", pa.list_(pa.string()))]))
        >>> table = pa.table({"mean": [0.5], "last": [["EWR", "JFK"]]})
        >>> codec.decode(codec.encode(table, pa.array([7]))[0])
        Row(values=(0.5, ['EWR', 'JFK']), event_time=7)
    """

    def __init__(self, schema: pa.Schema, definition: str = "") -> None:
        self.names: tuple[str, ...] = tuple(schema.names)
        self.dtypes: tuple[DType, ...] = tuple(dtype_of_arrow(field.name, field.type) for field in schema)
        text = "\n".join(f"{name}:{dtype}" for name, dtype in zip(self.names, self.dtypes, strict=True))
        self.schema_hash = hashlib.sha256(f"{text}\n\n{definition}".encode()).digest()[:8]
        self._bitmap = (len(self.names) + 7) // 8
        codes = [_FIXED.get(dtype, _OFFSET) for dtype in self.dtypes]
        self._struct = struct.Struct(f"<BB8sq{self._bitmap}s" + "".join(code for code, _ in codes))
        self._record = np.dtype(
            [
                ("version", "u1"),
                ("kind", "u1"),
                ("schema", "V8"),
                ("event", "<i8"),
                ("nulls", "u1", (self._bitmap,)),
            ]
            + [(f"f{i}", kind) for i, (_, kind) in enumerate(codes)]
        )
        self._varying = tuple(i for i, dtype in enumerate(self.dtypes) if dtype not in _FIXED)
        self._uuids = tuple(i for i, dtype in enumerate(self.dtypes) if dtype is DType.UUID)

    def encode(self, table: pa.Table, event_times: pa.Array | pa.ChunkedArray | None = None) -> list[bytes]:
        """Pack a table, one value a row.

        Args:
            table: The features by name; further columns are ignored; any number of chunks.
            event_times: Per row the time of the latest-value event (int64 microseconds or timestamp), or None.

        Returns:
            One value a row, shape (n_rows,).

        Raises:
            StoreError: A feature is missing or does not have the type that the schema declares.
        """
        n = table.num_rows
        records = np.zeros(n, self._record)
        records["version"], records["kind"] = VERSION, Kind.ROW
        records["schema"] = np.frombuffer(self.schema_hash, "V8")[0]
        records["event"] = _event_times(event_times, n)
        nulls = np.zeros((n, self._bitmap * 8), np.bool_)
        ends = np.zeros(n, np.int64)
        varying: list[list[bytes]] = []
        for i, (name, dtype) in enumerate(zip(self.names, self.dtypes, strict=True)):
            column = _column(table, name, dtype)
            nulls[:, i] = column.is_null().to_numpy(zero_copy_only=False)
            if dtype in _FIXED:
                records[f"f{i}"] = _fixed(column, dtype)
            else:
                encoded = encode_varying(column, dtype)
                ends += np.fromiter(map(len, encoded), np.int64, n)
                if n and ends.max() > 0xFFFFFFFF:
                    raise StoreError("a row is longer than 4 GiB", object=f'feature "{name}"')
                records[f"f{i}"] = ends
                varying.append(encoded)
        records["nulls"] = np.packbits(nulls, axis=1, bitorder="little")
        return _rows(records, varying)

    def decode(self, data: bytes) -> Row:
        """Read one value back.

        Args:
            data: What ``encode`` wrote.

        Raises:
            StoreError: The bytes are truncated, of a newer version, of another kind, or of another schema.
        """
        if len(data) < _HEADER.size or data[:2] != _ROW or data[SCHEMA_AT] != self.schema_hash:
            raise self._refusal(data)
        if len(data) < self._struct.size:
            raise self._truncated(data)
        _, _, _, event, bitmap, *values = self._struct.unpack_from(data)
        if self._varying:
            self._fill_varying(data, values)
        elif len(data) != self._struct.size:
            raise self._truncated(data)
        for i in self._uuids:
            values[i] = UUID(bytes=values[i])
        bits = int.from_bytes(bitmap, "little")
        while bits:
            lowest = bits & -bits
            values[lowest.bit_length() - 1] = None
            bits ^= lowest
        return Row(tuple(values), None if event == _NO_EVENT else event)

    def _fill_varying(self, data: bytes, values: list[Any]) -> None:
        start = self._struct.size
        if len(data) != start + values[self._varying[-1]]:
            raise self._truncated(data)
        try:
            for i in self._varying:
                end = self._struct.size + values[i]
                values[i] = decode_varying(data[start:end], self.dtypes[i]) if end > start else None
                start = end
        except (struct.error, UnicodeDecodeError, IndexError, ValueError) as error:
            raise StoreError(
                f'feature "{self.names[i]}" of a stored row cannot be read: {error}', hint=_REMAKE
            ) from error

    def _truncated(self, data: bytes) -> StoreError:
        return StoreError(
            f"a stored row is truncated or damaged: {len(data)} bytes",
            expected=f"{self._struct.size} bytes and then the values of varying length",
            hint=_REMAKE,
        )

    def _refusal(self, data: bytes) -> StoreError:
        if len(data) < 2:
            return self._truncated(data)
        if data[0] != VERSION:
            return StoreError(
                f"a stored row has layout version {data[0]}, this reader knows version {VERSION}",
                hint="Upgrade this process, or materialise the view again with this version.",
            )
        if data[1] != Kind.ROW:
            kind = Kind(data[1]).name.lower() if data[1] in set(Kind) else f"unknown ({data[1]})"
            return StoreError(f"a stored value is of kind {kind}", expected="a row")
        if len(data) < _HEADER.size:
            return self._truncated(data)
        return StoreError(
            f"a stored row was written for another definition of its view (schema {data[SCHEMA_AT].hex()})",
            expected=f"schema {self.schema_hash.hex()}: {', '.join(self.names)}",
            hint="Apply the repository and materialise the view again.",
        )


_ROW = bytes([VERSION, Kind.ROW])
_REMAKE = "Materialise the view again."


def is_tombstone(data: bytes) -> bool:
    """Say whether a stored value marks an erased key, whichever version wrote it."""
    return len(data) >= 2 and data[1] == Kind.TOMBSTONE


def schema_of(data: bytes) -> bytes:
    """Return the 8-byte schema hash of a stored row."""
    return data[SCHEMA_AT]


def _event_times(event_times: pa.Array | pa.ChunkedArray | None, n: int) -> Any:
    if event_times is None:
        return _NO_EVENT
    if len(event_times) != n:
        raise StoreError(f"{len(event_times)} event times were given for {n} rows")
    return microseconds(event_times).fill_null(_NO_EVENT).to_numpy(zero_copy_only=False)


def microseconds(times: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return times as int64 microseconds since epoch, UTC.

    Args:
        times: Timestamps of any unit (nanoseconds are floored, also before 1970; naive is UTC), or int64
            microseconds; shape (n,).
    """
    whole = _whole(times)
    if pa.types.is_timestamp(whole.type):
        if whole.type.unit == "ns":  # a cast alone would round towards zero
            whole = pc.floor_temporal(whole, unit="microsecond")
        whole = whole.cast(pa.timestamp("us", tz=whole.type.tz))
    return whole.cast(pa.int64())


def _column(table: pa.Table, name: str, dtype: DType) -> pa.Array:
    if name not in table.column_names:
        raise StoreError(f'feature "{name}" is missing from the rows to be stored')
    column = _whole(table.column(name))
    wanted = arrow_type(dtype)
    if column.type == wanted:
        return column
    try:
        if dtype is DType.TIMESTAMP and pa.types.is_timestamp(column.type):
            return microseconds(column).cast(wanted)
        return column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise StoreError(f'feature "{name}" is {column.type}: {error}', expected=str(dtype)) from error


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _fixed(column: pa.Array, dtype: DType) -> Any:
    if dtype is DType.UUID:
        return _uuids(column)
    if dtype is DType.TIMESTAMP:
        column = column.cast(pa.int64())
    empty: Any = False if dtype is DType.BOOL else 0
    return column.fill_null(pa.scalar(empty, column.type)).to_numpy(zero_copy_only=False)


def _uuids(column: pa.Array) -> Any:
    values = np.zeros(len(column), "V16")
    for i, value in enumerate(column.storage.to_pylist()):
        if value is not None:
            values[i] = value
    return values


def _rows(records: Any, varying: Sequence[list[bytes]]) -> list[bytes]:
    packed, width = records.tobytes(), records.dtype.itemsize
    fixed = (packed[at : at + width] for at in range(0, len(packed), width))
    if not varying:
        return list(fixed)
    return [b"".join(parts) for parts in zip(fixed, *varying, strict=True)]


if set(_FIXED) | set(VARYING) != set(DType):  # a type added to the spec must be added here
    raise AssertionError("a feature type has no layout")
