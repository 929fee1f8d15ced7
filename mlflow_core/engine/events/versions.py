"""Versions of events: when each row of a source counts, before any window is looked at.

With an ``event_id`` the rows of one id are versions of one event, wherever a correction moved it: to another
key, to another time, or away. A version ends as soon as a greater one (by created, then source row) is visible.
Identity is the source's, so this runs over all versions of an id together, before events are dropped for a
null key and before they are parted by key.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from mlflow_core.engine.events.arrays import codes
from mlflow_core.engine.events.clock import visible_from
from mlflow_core.engine.kernels.sweeps import version_ends
from mlflow_core.engine.times import NEVER, Flags, Int64, microseconds
from mlflow_core.errors import SourceError
from mlflow_core.spec import ClockName, FeatureView

__all__ = ["END", "ROW", "Stamps", "Timeline", "stamps_of", "timeline_of", "with_ends"]

ROW = "__row"
END = "__end"


@dataclass(frozen=True, slots=True)
class Timeline:
    """When each row of a source happened and counts; arrays of shape (n,), times in microseconds, UTC.

    Attributes:
        time: Event time, int64.
        created: What orders versions and ties, int64.
        row: The row's place in the source's order, int64.
        start: First evaluation time at which the row is visible, int64.
        end: First evaluation time at which a greater version is, int64.
        placed: False where the event time is null.
        deleted: True where the row is a delete.
    """

    time: Int64
    created: Int64
    row: Int64
    start: Int64
    end: Int64
    placed: Flags
    deleted: Flags

    @property
    def counts(self) -> Flags:
        """Which rows count at any time at all, bool (n,)."""
        return self.placed & ~self.deleted & (self.end > self.start)

    def at(self, order: Int64) -> Timeline:
        """Return some of the rows, in a given order."""
        return Timeline(**{field.name: getattr(self, field.name)[order] for field in fields(self)})


def timeline_of(events: pa.Table, view: FeatureView, clock: ClockName) -> Timeline:
    """Say when each row of a source counts.

    Args:
        events: Rows of the view's source with its time and identity columns; ``__row`` gives their place in the
            source's order (by default the table's), ``__end`` ends that were found before (else found here).
        view: Whose source and availability apply.
        clock: Which events are seen.

    Raises:
        SourceError: A time column holds no times, or a delete has no event time.
    """
    stamps = stamps_of(events, view)
    row = np.arange(events.num_rows, dtype=np.int64)
    if ROW in events.column_names:
        row = np.array(events[ROW], np.int64)
    start = np.where(stamps.placed, visible_from(stamps.time, stamps.known, view, clock), NEVER)
    if END in events.column_names:
        end = np.array(events[END], np.int64)
    elif view.source.event_id is not None:
        end = _ends(events[view.source.event_id], stamps.created, row, start)
    else:
        end = np.full(events.num_rows, NEVER, np.int64)
    return Timeline(stamps.time, stamps.created, row, start, end, stamps.placed, stamps.deleted)


@dataclass(frozen=True, slots=True)
class Stamps:
    """The times that a source's rows carry, whatever the clock; arrays of shape (n,), microseconds, UTC.

    Attributes:
        time: Event time, int64, 0 where it is null.
        known: When the row was known, at least its event time, int64; the event time itself where it says none.
        created: What orders versions and ties, int64; when it was known where it says none.
        placed: False where the event time is null.
        deleted: True where the row is a delete.
    """

    time: Int64
    known: Int64
    created: Int64
    placed: Flags
    deleted: Flags


def stamps_of(events: pa.Table, view: FeatureView) -> Stamps:
    """Read the times that a source's rows carry.

    Args:
        events: Rows of the view's source with its time and identity columns.
        view: Whose source it is.

    Raises:
        SourceError: A time column holds no times, or a delete has no event time.
    """
    source, title = view.source, view.source.title
    time, no_time = microseconds(events[source.event_time], name=source.event_time, title=title)
    known = time
    if source.known_at is not None:
        told, untold = microseconds(events[source.known_at], name=source.known_at, title=title)
        known = np.maximum(np.where(untold, time, told) if untold.any() else told, time)
    created = known
    if source.created is not None:
        stamped, unstamped = microseconds(events[source.created], name=source.created, title=title)
        created = np.where(unstamped, known, stamped) if unstamped.any() else stamped
    deleted = _deleted(events, view)
    if bool((deleted & no_time).any()):
        raise SourceError(
            f'a delete has no time in "{source.event_time}"', object=title, expected="an event time"
        )
    return Stamps(time, known, created, ~no_time, deleted)


def with_ends(events: pa.Table, view: FeatureView, clock: ClockName) -> pa.Table:
    """Append ``__end``, so that the rows can be parted by key afterwards; see ``timeline_of``."""
    return events.append_column(END, pa.array(timeline_of(events, view, clock).end))


def _deleted(events: pa.Table, view: FeatureView) -> Flags:
    name = view.source.deleted
    if name is None:
        return np.zeros(events.num_rows, np.bool_)
    if not pa.types.is_boolean(events[name].type):
        raise SourceError(
            f'column "{name}" holds {events[name].type}', object=view.source.title, expected="booleans"
        )
    return np.array(events[name].fill_null(False), np.bool_)


def _ends(identity: pa.ChunkedArray, created: Int64, row: Int64, start: Int64) -> Int64:
    """The least start among the greater versions of the same id; a null id is an event of its own."""
    code = codes(identity)
    if int(code.max(initial=-1)) + 1 == int((code >= 0).sum()):
        return np.full(len(code), NEVER, np.int64)  # no id twice
    order = np.lexsort((row, created, code))[::-1]  # greatest version of an id first
    end = np.empty(len(code), np.int64)
    end[order] = version_ends(code[order], start[order])
    return end
