"""What a request for online features is answered with: values, statuses and times by column. No reading here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import pyarrow as pa

__all__ = ["Answer", "Status", "all_of"]


class Status(StrEnum):
    """What a value's presence or absence means."""

    PRESENT = "PRESENT"
    NULL_VALUE = "NULL_VALUE"
    NOT_FOUND = "NOT_FOUND"
    OUTSIDE_MAX_AGE = "OUTSIDE_MAX_AGE"


class Answer(NamedTuple):
    """Values, statuses and times by output column, each of shape (n_rows,) in the order of the entity rows.

    Columns may share a list of statuses or times; nobody changes one.

    Attributes:
        columns: Values; times are aware datetimes in UTC, maps dicts, null None.
        statuses: What each value is.
        event_times: Microseconds since epoch, UTC: of a latest value its event's time, of a window its boundary,
            None where there is none, as for on-demand features; empty where nobody asked for times.
        types: Arrow type by output column.
    """

    columns: dict[str, Sequence[Any]]
    statuses: dict[str, Sequence[Status]]
    event_times: dict[str, Sequence[int | None]]
    types: Mapping[str, pa.DataType]

    def rows(self) -> list[dict[str, Any]]:
        """Return the values as one dict a row."""
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]


def all_of(status: Status, n_rows: int) -> tuple[Status, ...]:
    """Return one status for every row; most columns have one, so short ones are made once."""
    return _READY[status][n_rows] if n_rows < _READY_ROWS else (status,) * n_rows


_READY_ROWS = 257
_READY = {status: [(status,) * n for n in range(_READY_ROWS)] for status in Status}
