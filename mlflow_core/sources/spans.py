"""Which event times a piece of data can hold, as far as its own statistics prove it.

A *span* is the least and the greatest event time, in microseconds since epoch, UTC. ``None`` means that nothing is
known, and such a piece is never left out; ``NO_TIMES`` means that it is known to hold no event time at all. What
the statistics say is read from Parquet footers here; nothing reads rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = [
    "NO_TIMES",
    "Between",
    "Span",
    "as_time",
    "group_spans",
    "joined_span",
    "may_hold",
    "reported_span",
]

Span = tuple[int, int]
"""Least and greatest event time, microseconds since epoch, UTC, both included."""
Between = tuple[int | None, int | None]
"""The event times that are wanted, microseconds since epoch, UTC, both ends included; None is no bound."""
NO_TIMES: Span = (2**63 - 1, -(2**63))
"""The span of rows that are known to have no event time."""

_PER_MICROSECOND = {"s": (1_000_000, 1), "ms": (1_000, 1), "us": (1, 1), "ns": (1, 1_000)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def may_hold(span: Span | None, between: Between | None) -> bool:
    """Tell whether rows of a span can have an event time between two others; unknown means yes."""
    if span is None or between is None:
        return True
    least, greatest = between
    return not (
        span[0] > span[1]
        or (least is not None and span[1] < least)
        or (greatest is not None and span[0] > greatest)
    )


def joined_span(spans: Iterable[Span | None]) -> Span | None:
    """Return the span of several pieces together, unknown if that of any is."""
    least, greatest = NO_TIMES
    for span in spans:
        if span is None:
            return None
        least, greatest = min(least, span[0]), max(greatest, span[1])
    return least, greatest


def reported_span(span: Span | None) -> Span | None:
    """Return a span as others see it: rows without any event time have none."""
    return None if span is None or span[0] > span[1] else span


def as_time(text: str | None) -> int | None:
    """Read an ISO 8601 time or date, as folders' names hold it; a naive one is UTC.

    Returns:
        Microseconds since epoch, UTC; None where there is no text.

    Raises:
        ValueError: It is no time.
    """
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    passed = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def group_spans(footer: pq.FileMetaData, name: str) -> tuple[Span | None, ...]:
    """Return the span of each row group of a Parquet file.

    Args:
        footer: The file's footer.
        name: Its column of event times, as the file calls it.

    Returns:
        A span for each row group; None where the column is no time, is nested, has no statistics, or has some
        that cannot be true.
    """
    unknown: tuple[Span | None, ...] = (None,) * int(footer.num_row_groups)
    leaves = [n for n in range(footer.num_columns) if footer.schema.column(n).path == name]
    schema = footer.schema.to_arrow_schema()
    # Column "a.b" and field b of column "a" have one path; then nobody can tell whose statistics these are.
    if len(leaves) != 1 or name not in schema.names:
        return unknown
    kind = schema.field(name).type
    if footer.schema.column(leaves[0]).physical_type == "INT96" or not _is_time(kind):
        return unknown
    return tuple(
        _group_span(footer.row_group(number).column(leaves[0]).statistics, kind)
        for number in range(footer.num_row_groups)
    )


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date32(kind))


def _group_span(statistics: pq.Statistics | None, kind: pa.DataType) -> Span | None:
    if statistics is None:
        return None
    if not statistics.has_min_max:
        only_nulls = statistics.has_null_count and statistics.null_count > 0 and statistics.num_values == 0
        return NO_TIMES if only_nulls else None
    least, greatest = _microseconds(statistics.min_raw, kind), _microseconds(statistics.max_raw, kind)
    return (least, greatest) if least <= greatest else None


def _microseconds(raw: int, kind: pa.DataType) -> int:
    if pa.types.is_date32(kind):
        return raw * 86_400_000_000
    times, parts = _PER_MICROSECOND[kind.unit]
    return raw * times // parts  # floored, as nanoseconds are when rows are read
