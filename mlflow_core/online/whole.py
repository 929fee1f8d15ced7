"""Rows of which every value is there: numbers of a view, read without deciding value by value.

Most requests are for entities that are known, with values that are neither null nor too old. Then there is nothing to
decide: ``WholeRows.read`` sees that from the heads of the rows, and hands over their numbers in one piece. Wherever one
row is missing, erased, older than the TTL, of another definition, has a null or a number that is not finite, it
returns None, and ``reader`` decides.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from mlflow_core.online.codec import EVENT_ABSENT, RowCodec
from mlflow_core.online.head import LAYOUT_AT, SCHEMA_AT, SIGN
from mlflow_core.spec import DType

__all__ = ["Whole", "WholeEntity", "WholeRows"]

_EXACT = 2**53
_NUMBERS = frozenset({DType.BOOL, DType.INT64, DType.INT32, DType.FLOAT64, DType.FLOAT32})


Whole: TypeAlias = "tuple[Any, list[int] | int]"
"""Numbers of some rows, and their times.

Numbers are one sequence a feature, each of shape (n_rows,); of one row a single sequence of its numbers, which may be of
several views. Times are microseconds since epoch, UTC, (n_rows,), or one for all of them.
"""


class WholeRows:
    """Reads the rows of one view that are whole.

    Args:
        codec: The view's codec.
        features: The features wanted, in order.
        windows: Which of the view's features are windows: their time is the boundary.
        ttl: How old latest values may be in microseconds, or None.
    """

    def __init__(
        self, codec: RowCodec, features: Sequence[str], windows: frozenset[str], ttl: int | None
    ) -> None:
        positions = [codec.names.index(name) for name in features]
        latest = [name for name in features if name not in windows]
        self._struct, record, self.size = codec.fixed
        self._positions = None if positions == list(range(len(codec.names))) else positions
        self.wide = [i for i, at in enumerate(positions) if codec.dtypes[at] is DType.INT64]
        self._timed = codec.timed
        self._event_is_time = codec.timed and bool(latest)
        self.ttl = ttl if latest else None
        # Without an event between them, head and nulls are one piece of bytes.
        nulls = (len(codec.names) + 7) // 8
        self.start = codec.head if codec.timed else codec.head + bytes(nulls)
        self._start_at = slice(LAYOUT_AT, LAYOUT_AT + len(self.start))
        kinds = set(codec.dtypes)
        self._one_kind = len(kinds) == 1 and kinds <= _NUMBERS
        self.numbers = len(codec.names)
        self.codes = self._struct.format[len(f"<{nulls}s") :]
        self._fields = [f"f{at}" for at in positions]
        self._record = _pieces(record, len(self.start), len(codec.names) if self._one_kind else 0)
        self.possible = (
            bool(features) and kinds <= _NUMBERS and not (codec.timed and 0 < len(latest) < len(features))
        )
        """Whether a row of this view can be whole: all numbers, all of one time."""

    def read(self, rows: Sequence[bytes | None], now_us: int) -> Whole | None:
        """Read rows, if all of them are whole.

        Args:
            rows: What the store found, in order.
            now_us: When TTL counts, microseconds since epoch, UTC.
        """
        if len(rows) == 1:
            return self._one(rows[0], now_us)
        if None in rows or not rows:
            return None
        return self._many(rows, now_us)

    def _one(self, row: bytes | None, now_us: int) -> Whole | None:
        if row is None or len(row) != self.size:
            return None
        if self._timed:
            event, nulls, *numbers = self._struct.unpack_from(row, SCHEMA_AT.stop)
            if row[self._start_at] != self.start or any(nulls):
                return None
            time = event if self._event_is_time else int.from_bytes(row[:8], "big") - SIGN
        else:
            if row[self._start_at] != self.start:
                return None
            _, *numbers = self._struct.unpack_from(row, SCHEMA_AT.stop)
            event = time = int.from_bytes(row[:8], "big") - SIGN
        if self.ttl is not None and event != EVENT_ABSENT and now_us - event > self.ttl:
            return None
        if self._event_is_time and event == EVENT_ABSENT:
            return None
        if self._positions is not None:
            numbers = [numbers[i] for i in self._positions]
        return (numbers, time) if _writable(numbers, self.wide) else None

    @property
    def in_one_piece(self) -> bool:
        """Whether all that follows a row's nulls is wanted, in order."""
        return self._positions is None and not self._timed

    def _many(self, rows: Sequence[bytes | None], now_us: int) -> Whole | None:
        joined = b"".join(rows)  # type: ignore[arg-type]
        # A row of another length would move the heads behind it, which then are none.
        if len(joined) != self.size * len(rows):
            return None
        records = np.frombuffer(joined, self._record)
        if (records["start"] != np.void(self.start)).any():
            return None
        if self._timed and records["nulls"].any():
            return None
        times = self._times(records)
        if self._late(times, now_us):
            return None
        columns = self._columns(records)
        return None if columns is None else (columns, times)

    def _times(self, records: Any) -> list[int] | int:
        if self._event_is_time:
            times = records["event"]
            return int(times[0]) if (times == times[0]).all() else times.tolist()
        times = records["time"]
        if (times == times[0]).all():
            return int(times[0]) - SIGN
        return (times ^ _FLIP).astype(np.int64).tolist()  # type: ignore[no-any-return]

    def _late(self, times: list[int] | int, now_us: int) -> bool:
        """Say whether a latest value is too old, or has no event."""
        if self.ttl is None and not self._event_is_time:
            return False
        oldest = times if isinstance(times, int) else min(times)
        if self._event_is_time and oldest == EVENT_ABSENT:
            return True
        return self.ttl is not None and now_us - oldest > self.ttl

    def _columns(self, records: Any) -> Any:
        if self._one_kind:
            numbers = records["numbers"]
            numbers = np.ascontiguousarray(
                (numbers if self._positions is None else numbers[:, self._positions]).T
            )
            if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
                return None
            if self.wide and _beyond(numbers):
                return None
            # JSON has no narrower number: a float32 is written as a Python float of it is.
            return numbers.astype(np.float64) if numbers.dtype == np.float32 else numbers
        fields = [records[name] for name in self._fields]
        for field in fields:
            if field.dtype.kind == "f" and not np.isfinite(field).all():
                return None
        if any(_beyond(fields[i]) for i in self.wide):
            return None
        return [field.tolist() for field in fields]


class WholeEntity:
    """Reads one row of each of several views in one piece, where all of it is wanted.

    Args:
        views: The views, in order.
    """

    def __init__(self, views: Sequence[WholeRows]) -> None:
        self.possible = all(view.in_one_piece for view in views)
        """Whether rows can be read so."""
        self._starts: list[tuple[slice, bytes]] = []
        self._at: list[int] = []  # each view's numbers, and where they end
        self._ends: list[int] = []
        self._ttls = [(i, view.ttl) for i, view in enumerate(views) if view.ttl is not None]
        self._wide: list[int] = []
        at, codes, times, count = 0, "<", ">", 0
        for view in views:
            start = view.start
            self._starts.append((slice(at + LAYOUT_AT, at + LAYOUT_AT + len(start)), start))
            self._wide += [count + i for i in view.wide]
            codes += f"{LAYOUT_AT + len(start)}x{view.codes}"
            times += f"Q{view.size - 8}x"
            at += view.size
            self._at.append(count)
            count += view.numbers
            self._ends.append(count)
        self._numbers = struct.Struct(codes)
        self._times = struct.Struct(times)

    def read(self, rows: Sequence[bytes | None], now_us: int) -> list[Whole] | None:
        """Read a row of each view, if all of them are whole; what has one time comes in one piece.

        Args:
            rows: What the store found, a row of each view.
            now_us: When TTL counts, microseconds since epoch, UTC.
        """
        if None in rows:
            return None
        joined: bytes = b"".join(rows) if len(rows) > 1 else rows[0]  # type: ignore[arg-type,assignment]
        if len(joined) != self._numbers.size:
            return None
        for at, start in self._starts:
            if joined[at] != start:
                return None
        numbers = self._numbers.unpack(joined)
        if not _writable(numbers, self._wide):
            return None
        times = self._times.unpack(joined)  # with the sign bit flipped
        for i, ttl in self._ttls:
            if now_us - (times[i] - SIGN) > ttl:
                return None
        if times.count(times[0]) == len(times):
            return [(numbers, times[0] - SIGN)]
        return [
            (numbers[start:end], time - SIGN)
            for start, end, time in zip(self._at, self._ends, times, strict=True)
        ]


def _writable(numbers: Sequence[Any], wide: Sequence[int]) -> bool:
    """Say whether JSON can hold numbers as they are: all finite, none beyond 2**53."""
    total = sum(numbers)
    return total - total == 0 and not (wide and any(abs(numbers[i]) > _EXACT for i in wide))


_FLIP = np.uint64(SIGN)


def _beyond(numbers: Any) -> bool:
    """Say whether an integer is beyond what JSON's readers hold; the least int64 has no absolute value."""
    return bool(((numbers > _EXACT) | (numbers < -_EXACT)).any())


def _pieces(record: np.dtype[Any], start: int, numbers: int) -> np.dtype[Any]:
    """Return the codec's record with what a row starts with, and numbers of one kind, in one piece each."""
    fields = dict(record.fields or {})
    names, formats, offsets = [], [], []
    for name, (kind, offset, *_) in fields.items():
        if name not in ("sequence", "head"):
            names.append(name)
            formats.append(kind)
            offsets.append(offset)
    names.append("start")
    formats.append(np.dtype(f"V{start}"))
    offsets.append(LAYOUT_AT)
    if numbers:
        kind, offset = fields["f0"][:2]
        names.append("numbers")
        formats.append(np.dtype((kind, (numbers,))))
        offsets.append(offset)
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": record.itemsize})
