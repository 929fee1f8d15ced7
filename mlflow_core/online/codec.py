"""One stored value: all features of one view for one key, packed into bytes that say how to read them.

Layout, no padding, little-endian::

    head      26 bytes  version, layout, kind and schema: see ``head``
    event     8 bytes   only in views whose version is not their event's time: microseconds since epoch, UTC, of the
                        latest-value event; the least int64 for none
    nulls     1 bit a feature, least significant first, 1 = null
    fixed     each feature's value in order; for a feature of varying length the offset of its end (uint32)
    varying   the bytes of those features, in order

The fixed part decodes with one ``struct.Struct``, and a block of rows
is one numpy record array when it is written, and when many are read. A reader that meets another layout or schema
says so and never guesses. Not here: who is stored under which key (``keys``), which version wins (``backend``), what
a missing value means (``answer``).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_core.algebra.types import arrow_type, dtype_of_arrow
from mlflow_core.errors import StoreError
from mlflow_core.online.head import KIND_AT, LAYOUT, LAYOUT_AT, SCHEMA_AT, SIGN, Kind
from mlflow_core.online.varying import VARYING, encode_varying, varying_decoder
from mlflow_core.spec import DType

__all__ = ["EVENT_ABSENT", "Block", "RowCodec", "microseconds"]

EVENT_ABSENT = -(2**63)
_HEAD = slice(LAYOUT_AT, SCHEMA_AT.stop)  # one comparison tells whether a row is this codec's
_HEAD_SIZE = SCHEMA_AT.stop
_MANY = 8  # from how many rows on numpy is faster than a loop

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


class Block(NamedTuple):
    """Decoded rows, by column.

    Attributes:
        columns: The features in the codec's order, each of shape (n_rows,): bool, int, float, str, bytes, ``UUID``,
            lists of these, dicts of strings; times as int microseconds since epoch, UTC; None for null.
        event_times: Times of the latest-value events (microseconds since epoch, UTC), ``EVENT_ABSENT`` for none;
            None where the codec has none of its own: then the version's time is the event's.
        nulls: Bit i is set where column i has a null; None where nobody has looked.
    """

    columns: list[list[Any]]
    event_times: list[int] | None
    nulls: int | None = None


class RowCodec:
    """Packs the features of one view and reads them back.

    Args:
        schema: The features in order, without keys.
        definition: What else a stored value depends on, e.g. the windows it was computed over: values of one
            definition are not read as another's.
        timed: Whether a row carries the time of its latest-value event beside its version.

    Raises:
        SourceError: A column has a type that no feature can have.

    Example:
        >>> codec = RowCodec(pa.schema([("mean", pa.float64()), ("last", pa.list_(pa.string()))]))
        >>> table = pa.table({"mean": [0.5], "last": [["EWR", "JFK"]]})
        >>> packed = codec.encode(table, np.array([7]), np.array([0]))
        >>> codec.decode(packed).columns
        [[0.5], [['EWR', 'JFK']]]
    """

    def __init__(self, schema: pa.Schema, definition: str = "", *, timed: bool = False) -> None:
        self.names: tuple[str, ...] = tuple(schema.names)
        self.dtypes: tuple[DType, ...] = tuple(dtype_of_arrow(field.name, field.type) for field in schema)
        self.timed = timed
        text = "\n".join(f"{name}:{dtype}" for name, dtype in zip(self.names, self.dtypes, strict=True))
        self.schema_hash = hashlib.sha256(f"{text}\n\n{definition}".encode()).digest()[:8]
        self._head = bytes([LAYOUT, Kind.ROW]) + self.schema_hash
        self._bitmap = (len(self.names) + 7) // 8
        codes = [_FIXED.get(dtype, _OFFSET) for dtype in self.dtypes]
        self._struct = struct.Struct(
            f"<{'q' if timed else ''}{self._bitmap}s" + "".join(code for code, _ in codes)
        )
        self._size = _HEAD_SIZE + self._struct.size
        self._record = np.dtype(
            [("time", ">u8"), ("sequence", ">u8"), ("head", "V10")]
            + ([("event", "<i8")] if timed else [])
            + [("nulls", "u1", (self._bitmap,))]
            + [(f"f{i}", kind) for i, (_, kind) in enumerate(codes)]
        )
        self._fields = tuple(f"f{i}" for i in range(len(codes)))
        self._no_nulls = bytes(self._bitmap)
        self._varying = {i: varying_decoder(dtype) for i, dtype in enumerate(self.dtypes) if dtype in VARYING}
        self._last = max(self._varying, default=0)
        self._uuids = tuple(i for i, dtype in enumerate(self.dtypes) if dtype is DType.UUID)

    @property
    def head(self) -> bytes:
        """What stands behind a row's version: layout, kind and schema."""
        return self._head

    @property
    def is_fixed(self) -> bool:
        """Whether all rows have one length."""
        return not self._varying

    @property
    def fixed(self) -> tuple[struct.Struct, np.dtype[Any], int]:
        """How a row without values of varying length is read: what follows its head, the whole, and its size."""
        return self._struct, self._record, self._size

    def encode(
        self,
        table: pa.Table,
        times: npt.NDArray[np.int64],
        sequences: npt.NDArray[np.int64],
        event_times: pa.Array | pa.ChunkedArray | None = None,
    ) -> list[bytes]:
        """Pack a table, one value a row.

        Args:
            table: The features by name; further columns are ignored; any number of chunks.
            times: Each row's version's time, microseconds since epoch, UTC, (n_rows,).
            sequences: Orders versions of one time, (n_rows,).
            event_times: Per row the time of the latest-value event (int64 microseconds or timestamp), or None; only
                for a codec that is ``timed``.

        Returns:
            One value a row, shape (n_rows,).

        Raises:
            StoreError: A feature is missing or does not have the type that the schema declares.
        """
        return _rows(*self._packed(table, times, sequences, event_times))

    def records(
        self,
        table: pa.Table,
        times: npt.NDArray[np.int64],
        sequences: npt.NDArray[np.int64],
        event_times: pa.Array | pa.ChunkedArray | None = None,
    ) -> npt.NDArray[Any]:
        """Pack a table as ``encode`` does, the values side by side: for features of fixed length only.

        Returns:
            One record a row, whose bytes are the value; shape (n_rows,).

        Raises:
            StoreError: As ``encode``.
        """
        if self._varying:
            raise ValueError("features of varying length have no records")
        return self._packed(table, times, sequences, event_times)[0]

    def _packed(
        self,
        table: pa.Table,
        times: npt.NDArray[np.int64],
        sequences: npt.NDArray[np.int64],
        event_times: pa.Array | pa.ChunkedArray | None,
    ) -> tuple[npt.NDArray[Any], list[list[bytes]]]:
        """The fixed parts, one record a row, and the values of each feature of varying length."""
        n = table.num_rows
        records = np.zeros(n, self._record)
        records["time"] = times.astype(np.int64).view(np.uint64) ^ np.uint64(SIGN)
        records["sequence"] = sequences.astype(np.int64).view(np.uint64) ^ np.uint64(SIGN)
        records["head"] = np.frombuffer(self._head, "V10")[0]
        if self.timed:
            records["event"] = _event_times(event_times, n)
        nulls = np.zeros((n, self._bitmap * 8), np.bool_)
        ends = np.zeros(n, np.int64)
        varying: list[list[bytes]] = []
        for i, (name, dtype) in enumerate(zip(self.names, self.dtypes, strict=True)):
            column = _column(table, name, dtype)
            if column.null_count:
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
        return records, varying

    def decode(self, rows: Sequence[bytes]) -> Block:
        """Read values back.

        Args:
            rows: What ``encode`` wrote, in any order, from any number of tables.

        Raises:
            StoreError: Bytes are truncated, of a newer layout, of another kind, or of another schema.
        """
        if len(rows) >= _MANY:
            return self._decode_many(rows)
        self._check(rows)
        return self._decode_each(rows)

    def _check(self, rows: Sequence[bytes]) -> None:
        head, size, exact = self._head, self._size, not self._varying
        for data in rows:
            if data[_HEAD] != head or len(data) < size or (exact and len(data) != size):
                raise self._refusal(data)

    def _decode_many(self, rows: Sequence[bytes]) -> Block:
        n, size = len(rows), self._size
        joined = b"".join([data[:size] for data in rows] if self._varying else rows)
        if len(joined) != n * size or not (self._varying or set(map(len, rows)) == {size}):
            self._check(rows)
        records = np.frombuffer(joined, self._record)
        if records["head"].tobytes() != self._head * n:
            self._check(rows)
        columns: list[list[Any]] = [records[name].tolist() for name in self._fields]
        if self._varying:
            self._fill_varying(rows, columns)
        for i in self._uuids:
            columns[i] = [UUID(bytes=value) for value in columns[i]]
        bitmaps, nulls = records["nulls"], 0
        if bitmaps.any():
            nulls = int.from_bytes(np.bitwise_or.reduce(bitmaps, axis=0).tobytes(), "little")
            bits = np.unpackbits(bitmaps, axis=1, count=len(columns), bitorder="little")
            for row, i in zip(*(found.tolist() for found in np.nonzero(bits)), strict=True):
                columns[i][row] = None
        return Block(columns, records["event"].tolist() if self.timed else None, nulls)

    def _decode_each(self, rows: Sequence[bytes]) -> Block:
        if not rows:
            return Block([[] for _ in self.names], [] if self.timed else None, 0)
        unpack = self._struct.unpack_from
        if len(rows) == 1:  # what is asked for most
            columns = [[value] for value in unpack(rows[0], _HEAD_SIZE)]
        else:
            columns = list(map(list, zip(*[unpack(data, _HEAD_SIZE) for data in rows], strict=True)))
        times = columns.pop(0) if self.timed else None
        bitmaps = columns.pop(0)
        if self._varying:
            self._fill_varying(rows, columns)
        for i in self._uuids:
            columns[i] = [UUID(bytes=value) for value in columns[i]]
        nulls = 0
        if bitmaps.count(self._no_nulls) < len(rows):
            for row, bitmap in enumerate(bitmaps):
                bits = int.from_bytes(bitmap, "little")
                nulls |= bits
                while bits:
                    lowest = bits & -bits
                    columns[lowest.bit_length() - 1][row] = None
                    bits ^= lowest
        return Block(columns, times, nulls)

    def _fill_varying(self, rows: Sequence[bytes], columns: list[list[Any]]) -> None:
        """Put the values of varying length where their ends stand."""
        size = self._size
        for data, end in zip(rows, columns[self._last], strict=True):
            if len(data) != size + end:
                raise self._truncated(data)
        starts = [0] * len(rows)
        for i, decode in self._varying.items():
            ends = columns[i]
            try:
                columns[i] = [
                    decode(data[size + start : size + end]) if end > start else None
                    for data, start, end in zip(rows, starts, ends, strict=True)
                ]
            except (struct.error, UnicodeDecodeError, IndexError, ValueError) as error:
                raise StoreError(
                    f'feature "{self.names[i]}" of a stored row cannot be read: {error}', hint=_REMAKE
                ) from error
            starts = ends

    def _truncated(self, data: bytes) -> StoreError:
        return StoreError(
            f"a stored row is truncated or damaged: {len(data)} bytes",
            expected=f"{self._size} bytes and then the values of varying length",
            hint=_REMAKE,
        )

    def _refusal(self, data: bytes) -> StoreError:
        if len(data) < KIND_AT + 1:
            return self._truncated(data)
        if data[LAYOUT_AT] != LAYOUT:
            return StoreError(
                f"a stored row has layout {data[LAYOUT_AT]}, this reader knows layout {LAYOUT}",
                hint="Upgrade this process, or materialise the view again with this version.",
            )
        if data[KIND_AT] != Kind.ROW:
            kind = (
                Kind(data[KIND_AT]).name.lower()
                if data[KIND_AT] in set(Kind)
                else f"unknown ({data[KIND_AT]})"
            )
            return StoreError(f"a stored value is of kind {kind}", expected="a row")
        if len(data) < _HEAD_SIZE or data[_HEAD] == self._head:
            return self._truncated(data)
        return StoreError(
            f"a stored row was written for another definition of its view (schema {data[SCHEMA_AT].hex()})",
            expected=f"schema {self.schema_hash.hex()}: {', '.join(self.names)}",
            hint="Apply the repository and materialise the view again.",
        )


_REMAKE = "Materialise the view again."


def _event_times(event_times: pa.Array | pa.ChunkedArray | None, n: int) -> Any:
    if event_times is None:
        return EVENT_ABSENT
    if len(event_times) != n:
        raise StoreError(f"{len(event_times)} event times were given for {n} rows")
    return microseconds(event_times).fill_null(EVENT_ABSENT).to_numpy(zero_copy_only=False)


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
    if not column.null_count:
        return column.to_numpy(zero_copy_only=False)
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
