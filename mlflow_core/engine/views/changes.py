"""Which entities of a view can have changed between two boundaries: those of which any event came, went or moved.

A row that stands online keeps its value for as long as the same events are in each of its windows and the same ones
are visible at all; so what has to be written again is what had an event cross an edge in between, in or out, also
where it has gone again by the end. It is told from times alone; no value is computed for the others.

Events that a source is given late without saying so (no ``known_at``) cross no edge. Those are found by the parts
of the source that were not there the last time: all keys in them count as changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlflow_core.engine.events.clock import window_interval
from mlflow_core.engine.events.history import History
from mlflow_core.engine.times import Flags, Int64
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.sources import SourcePart
from mlflow_core.spec import FeatureView

__all__ = ["Delta", "Since", "changed_keys", "delta_of", "part_names"]

_MOST_PARTS = 4_096


@dataclass(frozen=True, slots=True)
class Since:
    """What an online store holds of a view already.

    Attributes:
        boundary: All entities are there as of this boundary or a later one, microseconds since epoch, UTC.
        parts: The source's parts when that was written, from ``part_names``.
    """

    boundary: int
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Delta:
    """From where changes are looked for in one run; small, picklable.

    Attributes:
        boundary: Changes after this boundary count, microseconds since epoch, UTC.
        fresh: For each part of the source whether all keys in it count as changed.
    """

    boundary: int
    fresh: tuple[bool, ...]


def part_names(parts: Sequence[SourcePart]) -> tuple[str, ...]:
    """Return short names of a source's parts, made of all that decides what is read from them.

    Args:
        parts: The parts in source order.

    Returns:
        One name a part, or a single one for thousands of them.
    """
    names = tuple(hashlib.sha256(part.fingerprint.encode()).hexdigest()[:12] for part in parts if part.rows)
    if len(names) <= _MOST_PARTS:
        return names
    return (hashlib.sha256("".join(names).encode()).hexdigest()[:12],)


def delta_of(
    view: FeatureView, since: Since | None, boundary: int, parts: Sequence[SourcePart]
) -> Delta | str:
    """Say from where changes are looked for, or why there is no such place.

    Args:
        view: The view.
        since: What the store holds; None where nobody knows.
        boundary: What is materialised, microseconds since epoch, UTC.
        parts: The source's parts now, as they will be read.

    Returns:
        Where from, or in words why all entities have to be written.
    """
    if since is None:
        return "nothing is known of an earlier run"
    if since.boundary > boundary:
        return "a later boundary has been reached before"
    source, fresh = view.source, tuple(False for _ in parts)
    if source.known_at is not None:
        return Delta(since.boundary, fresh)
    now = part_names(parts)
    if now == since.parts:
        return Delta(since.boundary, fresh)
    before = set(since.parts)
    # In their former order: of two events of one time the later row counts.
    added = len(now) == len(parts) and tuple(name for name in now if name in before) == since.parts
    if not added or source.event_id is not None or source.deleted is not None:
        return "the source was changed and does not say when its rows were known"
    return Delta(since.boundary, tuple(name not in before for name in now))


def changed_keys(
    history: History, read: ViewRead, boundary: int, delta: Delta, fresh_rows: Flags | None
) -> Flags:
    """Find the keys whose row can differ from what was written last.

    Args:
        history: The events of all keys.
        read: The view and the features wanted.
        boundary: What is materialised, microseconds since epoch, UTC.
        delta: From where changes are looked for.
        fresh_rows: Which rows of the runs are of parts that count as changed, bool (n_rows,); None for none.

    Returns:
        Which keys, bool (n_keys,).
    """
    after, until = delta.boundary, boundary
    timed = history.timed
    start, end = timed.intervals()
    crossed = _between(start, after, until) | _between(end, after, until)
    shapes = {(int(w.over), w.offset, w.boundary, w.hop): w for w in read.view.windows}
    for window in shapes.values():
        enter, leave = window_interval(timed.time, start, end, window)
        crossed |= (enter < leave) & (_between(enter, after, until) | _between(leave, after, until))
    if fresh_rows is not None:
        crossed |= fresh_rows[history.place]
    changed = _between(history.first_start, after, until)
    changed |= _any(crossed, timed.event_from)
    return changed


def _between(times: Int64, after: int, until: int) -> Flags:
    return np.asarray((times > after) & (times <= until))


def _any(flags: Flags, event_from: Int64) -> Flags:
    """Whether any of each key's events is flagged."""
    before = np.zeros(len(flags) + 1, np.int64)
    np.cumsum(flags, out=before[1:])
    return np.asarray(np.diff(before[event_from]) > 0)
