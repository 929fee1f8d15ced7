"""Answers of servers as cells that can be compared: whatever the order of columns, the spelling of times or of numbers.

A cell is (value, status, event time in microseconds or None). Feast's Redis store keeps event times as they are, its
other stores and its older versions in whole seconds, so a time equals another if it is the same at the coarser of the two.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

__all__ = ["Asker", "Cells", "Differences", "cells_of_compact", "cells_of_feast", "differences", "same_time"]

Cell = tuple[Any, str, int | None]
Cells = Mapping[str, Sequence[Cell]]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000
Differences = dict[str, int]


def cells_of_feast(body: bytes) -> dict[str, list[Cell]]:
    """Read an answer of ``/get-online-features``, Feast's or ours."""
    told = json.loads(body)
    names = told["metadata"]["feature_names"]
    names = names["val"] if isinstance(names, dict) else names
    found: dict[str, list[Cell]] = {}
    for name, column in zip(names, told["results"], strict=True):
        times = column.get("event_timestamps") or [None] * len(column["values"])
        found[name] = [
            (value, status, _time(time))
            for value, status, time in zip(column["values"], column["statuses"], times, strict=True)
        ]
    return found


def cells_of_compact(body: bytes) -> dict[str, list[Cell]]:
    """Read an answer of ``/v1/features``: no entity columns, times only on request, one status where it is all rows'."""
    told = json.loads(body)
    times = told.get("event_timestamps", {})
    return {
        name: [
            (value, status, _time(time))
            for value, status, time in zip(
                values,
                _each(told["statuses"][name], len(values)),
                times.get(name) or [None] * len(values),
                strict=True,
            )
        ]
        for name, values in told["features"].items()
    }


def differences(mine: Cells, theirs: Cells, *, times: bool = True) -> Differences:
    """Count what differs: columns that one side lacks, rows, values, statuses, times.

    Args:
        mine: One answer.
        theirs: Another one, or the truth; a time of None there is not looked at, as for entity columns.
        times: Whether event times count.
    """
    counted = dict.fromkeys(("columns", "rows", "values", "statuses", "times"), 0)
    counted["columns"] = len(set(mine) ^ set(theirs))
    for name in set(mine) & set(theirs):
        if len(mine[name]) != len(theirs[name]):
            counted["rows"] += abs(len(mine[name]) - len(theirs[name]))
            continue
        for one, other in zip(mine[name], theirs[name], strict=True):
            counted["values"] += type(one[0]) is not type(other[0]) or one[0] != other[0]
            counted["statuses"] += one[1] != other[1]
            counted["times"] += times and other[2] is not None and not same_time(one[2], other[2])
    return counted


def same_time(one: int | None, other: int | None) -> bool:
    """Say whether two times are one, at the coarser precision of the two: microseconds or whole seconds."""
    if one is None or other is None:
        return one is other
    if one % SECOND == 0 or other % SECOND == 0:
        return one // SECOND == other // SECOND
    return one == other


class Asker:
    """One kept connection that asks one query at a time, and asks again where a worker went away under it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(self, path: str, body: bytes) -> bytes:
        """Post a query.

        Raises:
            RuntimeError: The answer's status is no 200.
        """
        for attempt in range(5):
            try:
                self._connection.request("POST", path, body, {"Content-Type": "application/json"})
                answer = self._connection.getresponse()
                told = answer.read()
                break
            except (ConnectionError, http.client.HTTPException, TimeoutError):
                self._connection.close()  # Feast's server ends a worker after 1,000 requests
                if attempt == 4:
                    raise
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {told[:300]!r}")
        return told

    def close(self) -> None:
        self._connection.close()


def _each(told: str | list[str], n: int) -> list[str]:
    return [told] * n if isinstance(told, str) else told


def _time(told: Any) -> int | None:
    """Read a time as Feast and we write it; Feast says "no time" as the epoch."""
    if told is None or told == "":
        return None
    since = datetime.fromisoformat(str(told).replace("Z", "+00:00")) - EPOCH
    us = (since.days * 86_400 + since.seconds) * SECOND + since.microseconds
    return us or None
