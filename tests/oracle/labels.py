"""The naive truth of labels and splits: loops over events, as "Labels and splits" says it in words.

Times are whole microseconds. Nothing here is clever, and nothing is shared with the code that it judges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One version of one event."""

    key: str
    time: int
    value: float | None
    known_at: int | None = None
    event_id: int | None = None
    created: int | None = None

    @property
    def known(self) -> int:
        return self.time if self.known_at is None else max(self.known_at, self.time)


def last_versions(events: Sequence[Event]) -> list[Event]:
    """For each identity the version created last, the later row among equals; without identity every row."""
    kept = []
    for i, event in enumerate(events):
        beaten = False
        for j, other in enumerate(events):
            if event.event_id is None or other.event_id != event.event_id or i == j:
                continue
            mine = (event.known if event.created is None else event.created, i)
            theirs = (other.known if other.created is None else other.created, j)
            beaten = beaten or theirs > mine
        if not beaten:
            kept.append(event)
    return kept


def aggregate_label(
    events: Sequence[Event],
    key: str,
    t: int,
    horizon: int,
    function: str,
    where: Callable[[Event], bool] = lambda _: True,
) -> tuple[float | None, int]:
    """Count, sum or max over the events in (t, t + horizon] that meet a condition, and when that was known.

    It is known with the last event that had to be looked at; that none met the condition, not before the end.
    """
    looked_at = [e for e in last_versions(events) if e.key == key and t < e.time <= t + horizon]
    inside = [e for e in looked_at if where(e)]
    known = max([e.known for e in looked_at] + ([] if inside else [t + horizon]))
    values = [e.value for e in inside if e.value is not None]
    if function == "count":
        return float(len(inside)), known
    if not values:
        return None, known
    return (sum(values) if function == "sum" else max(values)), known


def place(
    t: int,
    label: float | bool | None,
    known: int,
    *,
    train_until: int,
    validate_until: int,
    test_until: int | None,
    embargo: int,
    settled: bool,
) -> str:
    """Say which part a row is in, or why it is in none."""
    if not settled:
        return "label_open"
    if label is None:
        return "label_null"
    if t < train_until:
        part, must_be_known_by = "train", train_until
    elif t < validate_until:
        part, must_be_known_by = "validate", validate_until
    else:
        part, must_be_known_by = "test", None
    if must_be_known_by is not None and known > must_be_known_by:
        return "label_unknown_at_cut"
    if part == "train" and known > train_until - embargo:
        return "embargo"
    if test_until is not None and t >= test_until:
        return "after_test"
    return part
