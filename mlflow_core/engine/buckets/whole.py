"""Materialisation in this process: a source that fits in memory is read once, and each of its views computed from it.

A source that does not fit is worked through in buckets, by the same steps as on a cluster, one after the other: what
is in memory at once is bounded whatever the source's size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from mlflow_core import sources
from mlflow_core.engine.buckets.steps import Cluster
from mlflow_core.engine.buckets.writing import written_by_buckets
from mlflow_core.engine.estimate import extent_of
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.engine.times import Flags
from mlflow_core.engine.views.changes import Delta, delta_of, part_names
from mlflow_core.engine.views.snapshot import Snapshot, SnapshotPart, snapshot_at
from mlflow_core.engine.views.view import needed_columns
from mlflow_core.engine.views.written import ViewEnd, ViewRun, write_parts
from mlflow_core.sources import SourceListing, SourcePart
from mlflow_core.telemetry import Progress, Stage

__all__ = ["FITS", "written_here"]

_Item = TypeVar("_Item")

FITS = 256 << 20
"""Bytes of a source, uncompressed, that are worked on from memory; sorting and computing take several times as much."""


def written_here(
    runs: Sequence[ViewRun], *, base: str, progress: Progress, fits: int, cache: Cache
) -> Iterator[ViewEnd]:
    """Compute and write views in this process; see ``mlflow_core.engine.route.Route.written``.

    Args:
        runs: The views.
        base: Folder of the feature repository.
        progress: Who is told.
        fits: Up to how many bytes a source is worked on from memory.
        cache: Where the layouts of others are kept.

    Yields:
        One end a run.
    """
    large: list[int] = []
    # The next view is read and computed while the store takes the rows of this one.
    for one in _one_ahead(_computed(runs, base, progress, fits)):
        if isinstance(one, ViewEnd):
            yield one
        elif isinstance(one, _Computed):
            yield _written(one, runs[one.place], progress)
        else:
            large += one
        del one  # its rows are written: none of them is kept while the next are waited for
    if large:
        cluster = Cluster(None, Path(base), cache)
        for end in written_by_buckets(
            cluster, [runs[place] for place in large], base=base, progress=progress
        ):
            yield replace(end, place=large[end.place])


@dataclass(frozen=True, slots=True)
class _Events:
    """All rows of a source: the table, how many of them each part has, and the parts."""

    table: pa.Table
    sizes: tuple[int, ...]
    parts: tuple[SourcePart, ...]

    @classmethod
    def read(cls, listing: SourceListing, columns: Sequence[str], stage: Stage) -> _Events:
        parts, tables = listing.parts(_ALL_TIMES), []
        for part in parts:
            tables.append(part.read(columns))
            stage.advance(tables[-1].num_rows, size=tables[-1].nbytes)
        return cls(pa.concat_tables(tables), tuple(table.num_rows for table in tables), parts)

    def of(self, fresh: Sequence[bool]) -> Flags | None:
        """Which rows are of some of the parts; None where none is."""
        return np.repeat(np.array(fresh, np.bool_), self.sizes) if any(fresh) else None


_ALL_TIMES = (None, None)


def _by_source(runs: Sequence[ViewRun]) -> dict[bytes, list[int]]:
    found: dict[bytes, list[int]] = {}
    for place, run in enumerate(runs):
        found.setdefault(run.read.view.source.canonical_json(), []).append(place)
    return found


@dataclass(frozen=True, slots=True)
class _Computed:
    """A view's rows, not written yet.

    Attributes:
        place: Which of the runs it is.
        found: Its rows and what was looked at for them, or why there are none.
        why_all: Why all entities are among them, in words; None where only changes are.
        parts: The source's parts.
    """

    place: int
    found: Snapshot | Exception
    why_all: str | None
    parts: tuple[SourcePart, ...]


def _computed(
    runs: Sequence[ViewRun], base: str, progress: Progress, fits: int
) -> Iterator[_Computed | ViewEnd | list[int]]:
    """Read each source and compute its views, each when it is asked for; sources that do not fit are only named."""
    for places in _by_source(runs).values():
        needed: dict[int, tuple[str, ...]] = {}
        try:
            listing = sources.open_source(runs[places[0]].read.view.source, base)
            for place in places:
                try:
                    needed[place] = needed_columns(runs[place].read, listing.schema.names)
                except Exception as error:  # the view's own
                    yield ViewEnd(place, failure=error)
            if not needed:
                continue
            wanted = {name for names in needed.values() for name in names}
            columns = [name for name in listing.schema.names if name in wanted]
            if extent_of(listing.schema, columns, listing.found).bytes > fits:
                yield list(needed)
                continue
            with progress.stage(f"reading {listing.source.name}", unit="rows") as stage:
                events = _Events.read(listing, columns, stage)
        except Exception as error:  # the boundary of a source: its views are told, whatever it is
            for place in needed or places:
                yield ViewEnd(place, failure=error)
            continue
        for place, names in needed.items():
            yield _snapshot(place, runs[place], events, names)
        del events  # before the next source is read


def _snapshot(place: int, run: ViewRun, events: _Events, columns: Sequence[str]) -> _Computed:
    found: Snapshot | Exception
    delta: Delta | str | None = None
    try:
        delta = delta_of(run.read.view, run.since, run.boundary, events.parts)
        given = None if isinstance(delta, str) else delta
        fresh = None if given is None else events.of(given.fresh)
        found = snapshot_at(events.table.select(columns), run.read, run.boundary, given, fresh)
    except Exception as error:  # told where the view's rows are asked for, as a worker would hand it over
        found = error
    return _Computed(place, found, delta if isinstance(delta, str) else None, events.parts)


def _written(one: _Computed, run: ViewRun, progress: Progress) -> ViewEnd:
    def parts() -> Iterator[SnapshotPart]:
        if isinstance(one.found, Exception):
            raise one.found
        yield SnapshotPart(one.found.table, one.found.entities)

    try:
        names = part_names(one.parts)
        with progress.stage(f"materialising {run.read.view.name}", unit="rows") as stage:
            done = write_parts(parts(), run, stage)
    except Exception as error:  # as a worker would hand it over, whatever it is
        return ViewEnd(one.place, failure=error)
    looked_at = None if isinstance(one.found, Exception) else one.found
    return ViewEnd(
        one.place,
        done,
        one.why_all,
        names,
        0 if looked_at is None else looked_at.events,
        0 if looked_at is None else looked_at.dropped_keys,
        0 if looked_at is None else looked_at.dropped_times,
        done.failure,
    )


def _one_ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """Make each item in a thread while the one before it is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="mlcore-source") as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item
            del item  # nor is it kept here
