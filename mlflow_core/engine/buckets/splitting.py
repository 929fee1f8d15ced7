"""A bucket within bounds of memory: keys in groups that fit, and a key that alone does not fit, cut by query time.

A group of keys is a range of codes. A cut by time gives each stretch of queries the events that any of its windows
can hold, and for latest values those older ones that could still be the latest at any later time. At a boundary, which
is one query, few events of a long past matter. What is left out cannot change an answer, so answers do not depend on
the bounds. ``tests/engine/test_splitting.py`` holds them to the bucket computed at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from mlflow_core.engine.events.clock import evaluation_times
from mlflow_core.engine.events.run import Run
from mlflow_core.engine.events.versions import timeline_of
from mlflow_core.engine.layouts.layout import between_codes
from mlflow_core.engine.times import NEVER, Flags, Int64, microseconds, plus
from mlflow_core.engine.views.changes import Delta
from mlflow_core.engine.views.snapshot import SnapshotPart, snapshot_of_runs
from mlflow_core.engine.views.view import compute_runs, row_times
from mlflow_core.plan.retrieval import ViewRead

__all__ = ["compute_within", "snapshot_within"]


def compute_within(
    runs: Sequence[Run],
    rows: Run,
    read: ViewRead,
    *,
    time_column: str,
    limit: int,
    back: Int64 | None = None,
) -> pa.Table:
    """Compute a view's features for one bucket.

    Args:
        runs: The bucket's events, one run a part, in source order; at least one.
        rows: Its entity rows, their keys in order of their codes.
        read: The view, the features wanted, the clock and the keys.
        time_column: The entity rows' time.
        limit: About how many bytes of events are worked on at once.
        back: In which order the rows are answered; see ``compute_runs``.

    Returns:
        The features, (n_rows,).

    Raises:
        EngineError: A sum of integers does not fit in int64.
    """
    if sum(run.rows.nbytes for run in runs) <= limit:
        return compute_runs(runs, rows, read, time_column=time_column, back=back)
    pieces: list[pa.Table] = []
    for low, high, alone in _groups(runs, limit):
        part = _between(rows, low, high)
        if not part.rows.num_rows and (pieces or high < 2**63):
            continue
        events = [_between(run, low, high) for run in runs]
        if alone and len(part.first) == 2 and all(len(run.first) <= 2 for run in events):
            pieces += _by_time(events, part, read, time_column, limit)
        else:
            pieces.append(compute_runs(events, part, read, time_column=time_column))
    whole = pa.concat_tables(pieces)
    return whole if back is None else whole.combine_chunks().take(pa.array(back))


def snapshot_within(
    runs: Sequence[Run], read: ViewRead, boundary: int, *, limit: int, delta: Delta | None = None
) -> Iterator[SnapshotPart]:
    """Compute a view at a boundary for the keys of one bucket, group by group; see ``snapshot_of_runs``.

    Args:
        runs: The bucket's events, one run a part, in source order; at least one.
        read: From ``snapshot_read``.
        boundary: The evaluation time, microseconds since epoch, UTC.
        limit: About how many bytes of events are worked on at once; of one key, what its windows hold fits in any case.
        delta: From where changes are looked for; all keys by default. A key that alone does not fit counts as changed.

    Raises:
        EngineError: A sum of integers does not fit in int64.
    """
    if sum(run.rows.nbytes for run in runs) <= limit:
        yield snapshot_of_runs(runs, read, boundary, delta, _fresh_rows(runs, delta))
        return
    for low, high, alone in _groups(runs, limit):
        events = [_between(run, low, high) for run in runs]
        if alone and all(len(run.first) <= 2 for run in events):
            events = [_at_boundary(run, read, boundary, limit) for run in events]
            yield snapshot_of_runs(events, read, boundary)
        else:
            yield snapshot_of_runs(events, read, boundary, delta, _fresh_rows(events, delta))


def _fresh_rows(runs: Sequence[Run], delta: Delta | None) -> Flags | None:
    if delta is None or not any(delta.fresh):
        return None
    return np.repeat(np.array(delta.fresh, np.bool_), [run.rows.num_rows for run in runs])


def _between(run: Run, low: int, high: int) -> Run:
    assert run.code is not None
    return run.part(*between_codes(run.code, low, high))


def _groups(runs: Sequence[Run], limit: int) -> Iterator[tuple[int, int, bool]]:
    """Ranges of codes that fit, over all codes; with whether a range is one key that does not."""
    sizes = [np.diff(run.first) * (run.rows.nbytes / max(1, run.rows.num_rows)) for run in runs]
    codes = [run.code for run in runs if run.code is not None]
    code, which = np.unique(np.concatenate(codes), return_inverse=True)
    size = np.bincount(which, weights=np.concatenate(sizes), minlength=len(code))
    big = size > limit
    group = np.cumsum(np.where(big, 0, size)) // limit
    starts = np.flatnonzero((group[1:] != group[:-1]) | big[1:] | big[:-1]) + 1
    edges = [0, *code[starts].tolist(), 2**63]
    alone = [bool(big[at]) for at in (0, *starts.tolist())] if len(code) else [False]
    yield from ((low, high, one) for (low, high), one in zip(pairwise(edges), alone, strict=True))


def _by_time(
    runs: Sequence[Run], rows: Run, read: ViewRead, time_column: str, limit: int
) -> Iterator[pa.Table]:
    """Compute the features of one key, stretch of queries by stretch."""
    view = read.view
    at = evaluation_times(row_times(rows.rows, time_column), view, read.clock)
    begins = plus(at, -_reach(read))
    moments = [_moments(run.rows[view.source.event_time]) for run in runs]
    until = np.sum([np.searchsorted(moment, at, side="right") for moment in moments], axis=0)
    below = np.sum([np.searchsorted(moment, begins) for moment in moments], axis=0)
    n_rows = sum(run.rows.num_rows for run in runs)
    most = max(1, int(limit * n_rows // sum(run.rows.nbytes for run in runs)))
    latest = any(name in view.latest for name in read.features)
    carried = [_Carried(run, read, most) for run in runs]
    first = 0
    while first < len(at):
        stop = max(first + 1, int(np.searchsorted(until, below[first] + most, side="right")))
        events = []
        for run, moment, older in zip(runs, moments, carried, strict=True):
            begin, end = (
                np.searchsorted(moment, begins[first]),
                np.searchsorted(moment, at[stop - 1], side="right"),
            )
            if latest:
                events.append(older.by(int(begin), int(at[first])))
            events.append(_one_key(run, run.rows.slice(begin, max(0, end - begin))))
        yield compute_runs(
            events, _one_key(rows, rows.rows.slice(first, stop - first)), read, time_column=time_column
        )
        first = stop


class _Carried:
    """Events before a time that could still be the latest visible one at some later evaluation time."""

    def __init__(self, run: Run, read: ViewRead, at_once: int) -> None:
        self._run, self._read, self._at_once = run, read, at_once
        self._rows, self._seen = run.rows.slice(0, 0), 0

    def by(self, begin: int, at: int) -> Run:
        """Return those among the first ``begin`` rows, for evaluation times from ``at`` on; neither may fall."""
        for start in range(self._seen, begin, self._at_once):
            new = self._run.rows.slice(start, min(begin, start + self._at_once) - start)
            self._rows = self._kept(pa.concat_tables([self._rows, new]), at)
        self._seen = max(self._seen, begin)
        return _one_key(self._run, self._rows)

    def _kept(self, rows: pa.Table, at: int) -> pa.Table:
        """An event is out for good when a greater one that is never replaced is visible whenever it is itself."""
        timeline = timeline_of(rows, self._read.view, self._read.clock)
        counts = timeline.counts & (timeline.end > at)
        start = np.maximum(timeline.start, at)
        forever = np.where(counts & (timeline.end == NEVER), start, NEVER)
        covered = np.full(len(start), NEVER, np.int64)
        covered[:-1] = np.minimum.accumulate(forever[::-1])[::-1][1:]
        return rows.take(pa.array(np.flatnonzero(counts & (start < covered))))


def _at_boundary(run: Run, read: ViewRead, boundary: int, limit: int) -> Run:
    """What of one key's events matters at a boundary: those in reach of a window, and two of the older ones.

    These are one that tells that the key has been seen, and the latest that still counts.
    """
    moment = _moments(run.rows[read.view.source.event_time])
    begin = int(np.searchsorted(moment, plus(np.array([boundary]), -_reach(read))[0]))
    end = int(np.searchsorted(moment, boundary, side="right"))
    most = max(1, int(limit * run.rows.num_rows // max(1, run.rows.nbytes)))
    witness: list[int] = []
    latest: list[int] = []
    for first in range(0, begin, most):
        timeline = timeline_of(run.rows.slice(first, min(begin, first + most) - first), read.view, read.clock)
        seen = timeline.start <= boundary
        witness = witness or (first + np.flatnonzero(seen)[:1]).tolist()
        counts = np.flatnonzero(seen & timeline.counts & (timeline.end > boundary))
        latest = (first + counts[-1:]).tolist() or latest
    older = run.rows.take(pa.array(sorted({*witness, *latest}), pa.int64()))
    return _one_key(run, pa.concat_tables([older, run.rows.slice(begin, max(0, end - begin))]))


def _reach(read: ViewRead) -> int:
    """How long before an evaluation time the oldest event of any of its windows may have happened."""
    return max(
        (
            int(window.offset) + int(window.over) + (1 if window.hop is None else int(window.hop))
            for window in read.view.windows
            if window.name in read.features
        ),
        default=0,
    )


def _one_key(run: Run, rows: pa.Table) -> Run:
    n = run.keys.num_rows
    return Run(run.keys, np.array([0, rows.num_rows][: n + 1], np.int64), rows, None, run.code)


def _moments(column: pa.ChunkedArray) -> Int64:
    if column.num_chunks == 1 and column.type == pa.timestamp("us", "UTC"):
        return np.asarray(column.chunk(0).cast(pa.int64()))  # as it lies in the mapped file
    return microseconds(column, name="event time", title="events")[0]
