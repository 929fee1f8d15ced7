"""Materialisation bucket by bucket: all views of one call at once, each bucket's rows written where it is computed.

The workers of a cluster do it, or this process, one bucket after the other, where a source does not fit in its memory.
Views of one source and keys share its layouts, so that it is read once for them. A view that fails, or whose source
does, stops no other. Only specs, sinks and counts pass through scheduler and client.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlflow_core import sources
from mlflow_core.engine.buckets.bucketed import Limits
from mlflow_core.engine.buckets.splitting import snapshot_within
from mlflow_core.engine.buckets.steps import Cluster, LayoutPlan, end_layouts, lay_out
from mlflow_core.engine.cluster.tasks import Amount, Call, run_apart
from mlflow_core.engine.events.keys import check_source
from mlflow_core.engine.files.entries import facts_of
from mlflow_core.engine.inputs import SourceRead
from mlflow_core.engine.layouts.layout import code_edges
from mlflow_core.engine.layouts.stored import Stored
from mlflow_core.engine.views.changes import Delta, delta_of, part_names
from mlflow_core.engine.views.view import needed_columns, value_columns
from mlflow_core.engine.views.written import Done, ViewEnd, ViewRun, write_parts
from mlflow_core.errors import MlcoreError
from mlflow_core.plan.erasures import NOTHING_ERASED
from mlflow_core.telemetry import Progress

if TYPE_CHECKING:
    from mlflow_core.sources import SourceListing

__all__ = ["write_bucket", "written_by_buckets"]

_ALL_TIMES = (None, None)


def written_by_buckets(
    cluster: Cluster, runs: Sequence[ViewRun], *, base: str, progress: Progress
) -> Iterator[ViewEnd]:
    """Compute and write views; see ``mlflow_core.engine.route.Route.written``.

    Args:
        cluster: Where.
        runs: The views.
        base: Folder of the feature repository.
        progress: Who is told.

    Yields:
        One end a run.
    """
    planned = _Planned.of(cluster, runs, base)
    try:
        if any(run.read.view.source.transform for run in runs) and cluster.client is not None:
            from mlflow_core.engine.cluster.project_code import share_code  # imports Dask

            share_code(cluster.client, [run.read for run in runs], None)
        with _laid_out(cluster, planned, progress):
            yield from planned.ended()
            yield from _computed(cluster, planned, progress)
    except MlcoreError as error:  # the cluster's or the cache's, and so everyone's
        planned.fail(planned.left, error)
    yield from planned.ended()


def write_bucket(
    bucket: int, n_buckets: int, stored: Stored, run: ViewRun, delta: Delta | None, limits: Limits
) -> Done:
    """Compute one bucket of a view at its boundary, and write it.

    Args:
        bucket: Which.
        n_buckets: Of how many.
        stored: Where the view's events are.
        run: The view, its boundary and its sink.
        delta: From where changes are looked for; None writes all entities.
        limits: How much is worked on at once.

    Returns:
        What was done; an error of ours on the way is told in it.
    """
    low, high = code_edges(n_buckets)[bucket : bucket + 2]
    try:
        opened = stored.open()
        columns = value_columns(run.read, opened.layouts[0].rows.column_names)
        events = opened.runs(low, high, columns)
    except MlcoreError as error:
        return Done(failure=error)
    parts = snapshot_within(events, run.read, run.boundary, limit=limits.events, delta=delta)
    return write_parts(parts, run)


@dataclass(frozen=True, slots=True)
class _Source:
    """A source's layouts, and which runs they are for."""

    name: str
    layouts: LayoutPlan
    stored: Mapping[int, Stored]


@dataclass(slots=True)
class _Planned:
    """What there is to do, and how far it has come."""

    runs: Sequence[ViewRun]
    of_sources: list[_Source] = field(default_factory=list)
    deltas: dict[int, Delta | str] = field(default_factory=dict)
    parts: dict[int, tuple[str, ...]] = field(default_factory=dict)
    failures: dict[int, BaseException] = field(default_factory=dict)
    done: dict[int, Done] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, cluster: Cluster, runs: Sequence[ViewRun], base: str) -> _Planned:
        planned = cls(runs)
        by_source: dict[bytes, list[int]] = {}
        for place, run in enumerate(runs):
            by_source.setdefault(run.read.view.source.canonical_json(), []).append(place)
        for places in by_source.values():
            try:
                listing = sources.open_source(runs[places[0]].read.view.source, base)
                listing.parts()
            except MlcoreError as error:
                planned.fail(places, error)
                continue
            planned._add(cluster, listing, places)
        return planned

    @property
    def left(self) -> list[int]:
        """The runs that have not ended."""
        return [place for place in range(len(self.runs)) if place not in self.told]

    def fail(self, places: Sequence[int], error: BaseException) -> None:
        for place in places:
            self.failures.setdefault(place, error)

    def ended(self) -> Iterator[ViewEnd]:
        """Tell of the runs that have failed and were not told of."""
        for place in self.left:
            if place in self.failures:
                yield self.end(place)

    def end(self, place: int, facts: Sequence[Mapping[str, Any]] = ()) -> ViewEnd:
        self.told.add(place)
        delta = self.deltas.get(place)
        events, keys, times = (
            sum(int(one[name]) for one in facts) for name in ("rows", "dropped_keys", "dropped_times")
        )
        return ViewEnd(
            place,
            self.done.get(place, Done()),
            delta if isinstance(delta, str) else None,
            self.parts.get(place, ()),
            events,
            keys,
            times,
            self.failures.get(place),
        )

    def _add(self, cluster: Cluster, listing: SourceListing, places: Sequence[int]) -> None:
        needed, kept = [], []
        found = listing.parts(_ALL_TIMES)
        for place in places:
            run = self.runs[place]
            try:
                check_source(listing.schema, run.read.view)
                needed.append(needed_columns(run.read, listing.schema.names))
            except MlcoreError as error:
                self.failures[place] = error
                continue
            kept.append(place)
            self.deltas[place] = delta_of(run.read.view, run.since, run.boundary, found)
            self.parts[place] = part_names(found)
        if kept:
            layouts = LayoutPlan(cluster)
            one = SourceRead(listing, tuple(kept), tuple(needed), _ALL_TIMES)
            stored = layouts.source(one, {place: self.runs[place].read for place in kept})
            self.of_sources.append(_Source(listing.source.name, layouts, stored))


@contextmanager
def _laid_out(cluster: Cluster, planned: _Planned, progress: Progress) -> Iterator[None]:
    """Lay out what the cache lacks, sources apart; what is used stays for the time of a ``with`` block."""
    cache = cluster.cache
    names = [name for one in planned.of_sources for name in (*one.layouts.layouts, *one.layouts.ends)]
    missing = 0
    try:
        with cache.leased(names):
            for step, doing in ((lay_out, "parting"), (end_layouts, "matching versions of")):
                calls: list[Call] = []
                groups: list[int] = []
                for number, one in enumerate(planned.of_sources):
                    if all(place in planned.failures for place in one.stored):
                        continue
                    todo = step(cache.folder, one.layouts)
                    calls += todo
                    groups += [number] * len(todo)
                missing += len(calls)
                if not calls:
                    continue
                about = ", ".join(dict.fromkeys(planned.of_sources[number].name for number in groups))
                ends = run_apart(
                    cluster.client,
                    calls,
                    groups,
                    f"{doing} {about}",
                    "parts",
                    progress,
                    failed=lambda _: False,
                )
                for end in ends:
                    if end.error is not None:
                        planned.fail(list(planned.of_sources[groups[end.place]].stored), end.error)
            yield
    finally:
        if missing:
            cache.trim()


def _computed(cluster: Cluster, planned: _Planned, progress: Progress) -> Iterator[ViewEnd]:
    """Compute and write all buckets of all runs whose sources are laid out."""
    stored = {
        place: where
        for one in planned.of_sources
        for place, where in one.stored.items()
        if place not in planned.failures
    }
    if not stored:
        return
    n_buckets = max(one.layouts.buckets(0) for one in planned.of_sources)
    calls: list[Call] = []
    groups: list[int] = []
    # Bucket by bucket rather than view by view: what a bucket maps of a shared layout is warm for the next view.
    for bucket in range(n_buckets):
        for place, where in stored.items():
            delta = planned.deltas[place]
            given = None if isinstance(delta, str) else delta
            # The layouts are without what was erased, so that no task need know of it.
            run = planned.runs[place]
            run = replace(run, read=run.read.without(NOTHING_ERASED))
            calls.append((write_bucket, bucket, n_buckets, where, run, given, cluster.limits))
            groups.append(place)
    waiting = dict.fromkeys(stored, n_buckets)
    names = ", ".join(planned.runs[place].read.view.name for place in stored)
    ends = run_apart(
        cluster.client,
        calls,
        groups,
        f"materialising {names}",
        "buckets",
        progress,
        failed=lambda done: done.failure is not None,
        amount=lambda done: Amount(rows=done.sunk.rows, bytes=done.sunk.bytes),
    )
    for end in ends:
        place = groups[end.place]
        waiting[place] -= 1
        if end.error is None:
            planned.done[place] = planned.done.get(place, Done()) + end.result
        error = end.error or end.result.failure
        if error is not None:
            planned.fail([place], error)
        elif not waiting[place]:
            where = stored[place]
            yield planned.end(place, [facts_of(where.folder / name) or {} for name in where.entries])
