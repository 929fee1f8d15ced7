"""Histories: the events of the keys that entity rows ask about, in order, from one run or several.

Runs are given in the order of the source, and that order decides ties. Only times are brought in order here; a
feature's column stays where it is until values are picked from it, or all of it is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mlflow_core.algebra import expression
from mlflow_core.engine.events import arrays
from mlflow_core.engine.events.clock import visible_from
from mlflow_core.engine.events.keys import places_of, same_keys
from mlflow_core.engine.events.run import Run
from mlflow_core.engine.events.versions import END, Stamps, stamps_of
from mlflow_core.engine.kernels.ordering import in_order, joined, matched, order_within_by_two
from mlflow_core.engine.times import NEVER, Flags, Int64
from mlflow_core.errors import SourceError, nearest
from mlflow_core.plan.retrieval import ViewRead

__all__ = ["Asked", "History", "Timed", "history_of"]


@dataclass(frozen=True, slots=True)
class Asked:
    """Entity rows as kernels see them, in (key, evaluation time) order.

    Attributes:
        row_from: Key k's rows are ``row_from[k]`` to ``row_from[k + 1] - 1``; int64 (n_keys + 1,).
        at: Evaluation times, microseconds, int64 (n_rows,).
    """

    row_from: Int64
    at: Int64


@dataclass(frozen=True, slots=True)
class Timed:
    """Events as kernels see them, in (key, event time, created, source row) order.

    Attributes:
        event_from: Key k's events are ``event_from[k]`` to ``event_from[k + 1] - 1``; int64 (n_keys + 1,).
        time: Event times, microseconds, int64 (n_events,).
        start: First evaluation time at which each is seen, int64 (n_events,); empty where that is its event time.
        end: First evaluation time at which a greater version is, int64 (n_events,); empty as ``start``.
    """

    event_from: Int64
    time: Int64
    start: Int64
    end: Int64

    @property
    def seen_all(self) -> bool:
        """Each event is seen from its time on, for ever: then a window is a range of positions."""
        return len(self.start) < len(self.time) or not len(self.time)

    def only(self, kept: Flags) -> tuple[Timed, Int64 | None]:
        """Return some of the events, and their positions among all; None where they are all."""
        if bool(kept.all()):
            return self, None
        position = np.flatnonzero(kept)
        before = np.zeros(len(kept) + 1, np.int64)
        np.cumsum(kept, out=before[1:])
        seen = self.seen_all
        some = Timed(
            before[self.event_from],
            self.time[position],
            self.start if seen else self.start[position],
            self.end if seen else self.end[position],
        )
        return some, position

    def intervals(self) -> tuple[Int64, Int64]:
        """Return from when and to when each event is seen, int64 (n_events,) each."""
        if self.seen_all:
            return self.time, np.full(len(self.time), NEVER, np.int64)
        return self.start, self.end

    @property
    def key(self) -> Int64:
        """Each event's key, int64 (n_events,)."""
        return np.repeat(np.arange(len(self.event_from) - 1), np.diff(self.event_from))


@dataclass(frozen=True, slots=True)
class History:
    """Events of some keys with their columns.

    Attributes:
        timed: Their order and times.
        created: What orders versions and ties, int64 (n_events,).
        first_start: Each key's first evaluation time at which any row, also a delete, is seen, int64 (n_keys,).
        tables: The runs' rows.
        place: Where each event is in them, counted over all, int64 (n_events,).
        computed: Columns that were computed in the events' order.
        title: Whose they are, for errors.
    """

    timed: Timed
    created: Int64
    first_start: Int64
    tables: tuple[pa.Table, ...]
    place: Int64
    title: str
    computed: dict[str, pa.Array] = field(default_factory=dict)

    def with_expressions(self, names: Sequence[str], expressions: dict[str, str]) -> History:
        """Return the history with columns computed by expressions.

        Args:
            names: The source's columns that they need.
            expressions: By name.
        """
        if not expressions:
            return self
        table = expression.evaluate(self.table(names), expressions, title=self.title)
        columns = {name: arrays.plain(table[name], name=name, title=self.title) for name in expressions}
        return replace(self, computed={**self.computed, **columns})

    def table(self, names: Sequence[str]) -> pa.Table:
        """Return some columns of all events in order; their times too, so that there is always one."""
        columns = {name: self.column(name) for name in names}
        return pa.table({**columns, _AT: pa.array(self.timed.time)})

    def column(self, name: str) -> pa.Array:
        """Return a column of all events in order, (n_events,), NaN as null."""
        if name in self.computed:
            return self.computed[name]
        return self._gathered(name, self.place)

    def pick(self, names: Sequence[str], positions: Int64) -> dict[str, pa.Array]:
        """Return columns' values at some positions, null where the position is negative, NaN as null."""
        places = positions
        if len(self.place):
            places = np.where(positions < 0, -1, self.place.take(positions, mode="clip"))
        picked = {}
        for name in names:
            if name in self.computed:
                picked[name] = arrays.pick(self.computed[name], positions)
            else:
                picked[name] = self._gathered(name, places)
        return picked

    def _gathered(self, name: str, places: Int64) -> pa.Array:
        return arrays.gather(self._columns(name), places, name=name, title=self.title)

    def _columns(self, name: str) -> pa.ChunkedArray:
        for table in self.tables:
            if name not in table.column_names:
                raise SourceError(
                    f'has no column "{name}"', object=self.title, hint=nearest(name, table.column_names)
                )
        return pa.chunked_array(
            [chunk for table in self.tables for chunk in table[name].chunks],
            self.tables[0].schema.field(name).type,
        )


_AT = "__at"


def history_of(runs: Sequence[Run], rows: Run, read: ViewRead) -> History:
    """Bring the events of the keys that entity rows ask about in order.

    Args:
        runs: Events, in the order of the source; with ``__end`` where the source has an ``event_id``.
        rows: Entity rows.
        read: The view, its clock and its keys.

    Raises:
        SourceError: A time column is missing or holds no times.
    """
    starts, stops = _ranges(runs, rows, read)
    n = int((stops - starts).sum())
    place, event_from = joined(starts, stops, n)
    if any(run.order is not None for run in runs):
        place = _of_all(_orders(runs)).take(place)
    told = _of_runs([stamps_of(run.rows, read.view) for run in runs])
    stamps = _placed(told, place)
    if len(runs) > 1 and not in_order(event_from, stamps.time, stamps.created):
        place = place.take(order_within_by_two(event_from, stamps.time, stamps.created))
        stamps = _placed(told, place)
    del told  # as large as all events of the bucket
    time, created, deleted = stamps.time, stamps.created, stamps.deleted
    start, end = time, np.zeros(0, np.int64)
    if read.clock != "event" and stamps.known is not time:
        start = visible_from(time, stamps.known, read.view, read.clock)
    if read.view.source.event_id is not None:
        end = _of_all([np.asarray(run.rows[END], np.int64) for run in runs]).take(place)
    first_start = _least(start, event_from)
    timed = Timed(event_from, time, np.zeros(0, np.int64), np.zeros(0, np.int64))
    if bool((end != NEVER).any()) or (start is not time and bool((start > time).any())):
        timed = replace(timed, start=start, end=end if len(end) else np.full(n, NEVER, np.int64))
        deleted = deleted | (timed.end <= timed.start)
    if bool(deleted.any()):
        timed, kept = timed.only(~deleted)
        if kept is not None:
            place, created = place[kept], created[kept]
    return History(timed, created, first_start, tuple(run.rows for run in runs), place, read.view.title)


def _of_runs(stamps: Sequence[Stamps]) -> Stamps:
    """The times of all runs' rows; what stands for another time stays the same array as that."""
    time = _of_all([one.time for one in stamps])
    known = time
    if any(one.known is not one.time for one in stamps):
        known = _of_all([one.known for one in stamps])
    created = known
    if any(one.created is not one.known for one in stamps):
        created = _of_all([one.created for one in stamps])
    deleted = _of_all([one.deleted for one in stamps])
    return Stamps(time, known, created, _all_placed(len(time)), deleted)


def _placed(stamps: Stamps, place: Int64) -> Stamps:
    """Put times in order; what stands for another time stays the same array as that."""
    time = stamps.time.take(place)
    known = time if stamps.known is stamps.time else stamps.known.take(place)
    created = known if stamps.created is stamps.known else stamps.created.take(place)
    deleted = stamps.deleted.take(place) if stamps.deleted.any() else np.zeros(len(place), np.bool_)
    return Stamps(time, known, created, _all_placed(len(place)), deleted)


def _all_placed(n: int) -> Flags:
    return np.ones(n, np.bool_)  # a run holds only rows with a time


def _ranges(runs: Sequence[Run], rows: Run, read: ViewRead) -> tuple[Int64, Int64]:
    """Where each asked key's events are in each run, counted over all runs' rows; int64 (n_runs, n_keys) each."""
    n_keys = len(rows.first) - 1
    starts = np.zeros((len(runs), n_keys), np.int64)
    stops = np.zeros((len(runs), n_keys), np.int64)
    asked = pa.table([rows.keys[column] for _, column in read.keys], [key for key, _ in read.keys])
    null = np.zeros(n_keys, np.bool_)
    for column in asked.columns:
        null |= np.asarray(column.is_null())
    before = 0
    for r, run in enumerate(runs):
        there = run.keys.select([key for key, _ in read.keys])
        if not _side_by_side(rows, run, asked, there, null, before, starts[r], stops[r]):
            at = places_of(asked, there)
            if not read.keys:
                at = np.full(n_keys, 0 if len(run.first) > 1 else -1, np.int64)
            starts[r] = np.where(at < 0, 0, before + run.first[at])
            stops[r] = np.where(at < 0, 0, before + run.first[at + 1])
        before += int(run.first[-1])
    starts[:, null], stops[:, null] = 0, 0
    return starts, stops


def _side_by_side(
    rows: Run,
    run: Run,
    asked: pa.Table,
    there: pa.Table,
    null: Flags,
    before: int,
    starts: Int64,
    stops: Int64,
) -> bool:
    """Find keys in a run where both are in order of one hash; False where they are not, or two keys have one hash."""
    if rows.code is None or run.code is None or not asked.num_columns:
        return False
    place = np.empty(len(null), np.int64)
    # Arrays that Arrow owns are read-only, for which kernels would be compiled once more.
    matched(np.array(rows.code), np.array(run.code), np.array(run.first), before, place, starts, stops)
    at = np.flatnonzero((place >= 0) & ~null)
    return same_keys(asked, there, at, place[at])


def _orders(runs: Sequence[Run]) -> list[Int64]:
    """Where each run's rows are, counted over all runs' rows, in the run's order."""
    orders, before = [], 0
    for run in runs:
        n = run.rows.num_rows
        orders.append(before + (np.arange(n, dtype=np.int64) if run.order is None else run.order))
        before += n
    return orders


def _of_all(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _least(start: Int64, event_from: Int64) -> Int64:
    """Each key's least start; NEVER where it has no event."""
    least = np.full(len(event_from) - 1, NEVER, np.int64)
    some = np.flatnonzero(np.diff(event_from))
    if len(some):
        least[some] = np.minimum.reduceat(start, event_from[some])
    return least
