"""Routes: where a view's features are computed. What they compute is ``mlflow_core.engine.views.view``, on any route.

``InProcess`` reads a source and computes in this process. ``OnDask`` parts events and entity rows by key into
files, computes each bucket and writes each shard on a worker; only file names and counts pass through the
scheduler. Answers are the same on both, whatever the number of buckets: a key's rows are never parted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from mlflow_core.engine.buckets.rows import range_edges
from mlflow_core.engine.buckets.sharded import features_here, shards_on_workers
from mlflow_core.engine.buckets.steps import Cluster
from mlflow_core.engine.buckets.whole import FITS, written_here
from mlflow_core.engine.buckets.writing import written_by_buckets
from mlflow_core.engine.estimate import WORTH_A_CLUSTER, RowsEstimate, estimate
from mlflow_core.engine.events.keys import check_key_types
from mlflow_core.engine.events.run import SortedRows
from mlflow_core.engine.files.shards import write_shards
from mlflow_core.engine.inputs import SourceRead, read_spans, rows_span, source_reads
from mlflow_core.engine.layouts.cache import Cache, user_cache
from mlflow_core.engine.views.assemble import assemble
from mlflow_core.engine.views.view import compute_view, sorted_queries
from mlflow_core.engine.views.written import ViewEnd, ViewRun
from mlflow_core.plan.retrieval import RetrievalPlan, ViewRead
from mlflow_core.telemetry import Progress

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["InProcess", "OnDask", "Route", "choose_route"]

_BYTES_A_ROW = 64
_TWO_FIT = 1 << 30  # bytes of two sources, uncompressed, that are in memory at once


class Route(Protocol):
    """A way to compute views: a plan's at entity rows, or one for all its entities at a boundary."""

    def features(
        self, plan: RetrievalPlan, spine: pa.Table, *, base: str, progress: Progress
    ) -> tuple[pa.Table, ...]:
        """Compute the features of a plan's views at entity rows, and bring them to this process.

        Args:
            plan: The views, the features wanted, the clocks and the keys.
            spine: Entity rows, (n,).
            base: Folder of the feature repository; relative paths start there.
            progress: Who is told.

        Returns:
            For each of the plan's reads the features under their output names, (n,), in the entity rows' order.

        Raises:
            SourceError: The source cannot be read, or the entity rows' keys or times do not fit it.
            EngineError: A sum of integers does not fit in int64.
        """
        ...

    def shards(
        self,
        plan: RetrievalPlan,
        spine: pa.Table,
        *,
        base: str,
        out: Path,
        rows_per_shard: int,
        progress: Progress,
    ) -> tuple[Path, ...]:
        """Compute a plan's output rows and write them as Parquet shards.

        Args:
            plan: As for ``features``; with its on-demand features.
            spine: Entity rows from ``mlflow_core.engine.views.assemble.checked_rows``, (n,).
            base: Folder of the feature repository.
            out: The folder for the shards.
            rows_per_shard: How many rows a shard has at most.
            progress: Who is told.

        Returns:
            The shards in the entity rows' order; after an error there is none.

        Raises:
            SourceError: As for ``features``.
            EngineError: As for ``features``; or an on-demand function fails.
            PlanError: An on-demand function cannot be imported where it is called.
        """
        ...

    def written(self, runs: Sequence[ViewRun], *, base: str, progress: Progress) -> Iterator[ViewEnd]:
        """Compute views at their boundaries and give their rows to their sinks, where they are computed.

        Args:
            runs: The views; those of one source read it together.
            base: Folder of the feature repository.
            progress: Who is told.

        Yields:
            One end a run, as soon as it has ended; one that fails stops no other.
        """
        ...


@dataclass(frozen=True, slots=True)
class InProcess:
    """Reads and computes in this process, small sources two at once: for what takes it seconds.

    Args:
        fits: Up to how many bytes of a source, uncompressed, are materialised from memory; a larger one is laid out in
            files first and worked through in buckets.
        cache: Where those files are kept; by default in the user's cache.
    """

    fits: int = FITS
    cache: Cache | None = None

    def features(
        self, plan: RetrievalPlan, spine: pa.Table, *, base: str, progress: Progress
    ) -> tuple[pa.Table, ...]:
        """Compute the views' features here; see ``Route.features``."""
        spans = read_spans(plan.reads, rows_span(spine, plan.time_column))
        reads = source_reads(plan, spans, base=base)
        for one in reads:
            for place in one.places:
                check_key_types(one.listing.schema, spine.schema, plan.reads[place])
        by_keys = {_columns(read): read for read in plan.reads}
        asked = {keys: sorted_queries(spine, read, plan.time_column) for keys, read in by_keys.items()}
        found: dict[int, pa.Table] = {}
        for features in _two_at_once(reads, lambda one: _features(one, plan, spine, asked, progress)):
            found |= features
        return tuple(found[place] for place in range(len(plan.reads)))

    def shards(
        self,
        plan: RetrievalPlan,
        spine: pa.Table,
        *,
        base: str,
        out: Path,
        rows_per_shard: int,
        progress: Progress,
    ) -> tuple[Path, ...]:
        """Compute and write shards here; see ``Route.shards``."""
        found = self.features(plan, spine, base=base, progress=progress)
        starts = range_edges(spine.num_rows, rows_per_shard)[:-1].tolist()
        pieces = (
            assemble(
                plan,
                spine.slice(first, rows_per_shard),
                [one.slice(first, rows_per_shard) for one in found],
            )
            for first in starts
        )
        return write_shards(pieces, out)

    def written(self, runs: Sequence[ViewRun], *, base: str, progress: Progress) -> Iterator[ViewEnd]:
        """Compute and write views here, sources that do not fit bucket by bucket; see ``Route.written``."""
        cache = self.cache or Cache(user_cache())
        yield from written_here(runs, base=base, progress=progress, fits=self.fits, cache=cache)


@dataclass(frozen=True, slots=True)
class OnDask:
    """Computes bucket by bucket on the workers of a Dask cluster.

    Args:
        client: The cluster's client.
        workdir: A folder that this process and all workers reach; each call cleans up what it wrote there.
        buckets: Into how many parts keys are parted; None chooses by the source's size.
        cache: Where sources' layouts are kept, which all workers reach; by default a folder beside ``workdir``.
    """

    client: Client
    workdir: Path
    buckets: int | None = None
    cache: Cache | None = None

    def features(
        self, plan: RetrievalPlan, spine: pa.Table, *, base: str, progress: Progress
    ) -> tuple[pa.Table, ...]:
        """Compute the views' features on the workers; see ``Route.features``."""
        return features_here(self._cluster, plan, spine, base=base, progress=progress)

    def shards(
        self,
        plan: RetrievalPlan,
        spine: pa.Table,
        *,
        base: str,
        out: Path,
        rows_per_shard: int,
        progress: Progress,
    ) -> tuple[Path, ...]:
        """Compute and write shards on the workers, which reach ``out`` too; see ``Route.shards``."""
        return shards_on_workers(
            self._cluster,
            plan,
            spine,
            base=base,
            out=out,
            rows_per_shard=rows_per_shard,
            progress=progress,
        )

    def written(self, runs: Sequence[ViewRun], *, base: str, progress: Progress) -> Iterator[ViewEnd]:
        """Compute views on the workers, which write them; see ``Route.written``."""
        yield from written_by_buckets(self._cluster, runs, base=base, progress=progress)

    @property
    def _cluster(self) -> Cluster:
        cache = self.cache or Cache(self.workdir.with_name(f"{self.workdir.name}-layouts").absolute())
        return Cluster(self.client, self.workdir, cache, self.buckets)


def choose_route(
    plan: RetrievalPlan,
    rows: RowsEstimate | int,
    *,
    base: str,
    client: Client | None,
    workdir: Path | None,
    worth_a_cluster: int = WORTH_A_CLUSTER,
    cache: Cache | None = None,
) -> Route:
    """Choose by estimated size: small retrievals lose more to a cluster than they gain.

    Args:
        plan: What would be retrieved.
        rows: For which entity rows, or for about how many.
        base: Folder of the feature repository.
        client: A cluster's client, if there is one.
        workdir: A folder shared with its workers.
        worth_a_cluster: From how many bytes on the cluster is used.
        cache: Where sources' layouts are kept; see ``OnDask``.

    Returns:
        ``OnDask`` where a client is given and the sources and entity rows are worth it, else ``InProcess``.

    Raises:
        SourceError: A source cannot be read, or lacks a column.
        PlanError: A view does not fit its source.
    """
    if client is None or workdir is None:
        return InProcess()
    if isinstance(rows, int):
        rows = RowsEstimate(rows, rows * _BYTES_A_ROW, None, exact=False)
    found = estimate(plan, rows, base=base, cluster=True, worth_a_cluster=worth_a_cluster)
    return OnDask(client, workdir, cache=cache) if found.place == "on Dask" else InProcess()


def _two_at_once(
    reads: Sequence[SourceRead], compute: Callable[[SourceRead], dict[int, pa.Table]]
) -> Iterator[dict[int, pa.Table]]:
    """Compute source by source, small ones two at once: most of the work gives the interpreter's lock away."""
    # A project's own function may not be made for threads.
    transformed = any(one.listing.source.transform for one in reads)
    if len(reads) < 2 or transformed or sum(sorted(map(_bytes, reads))[-2:]) > _TWO_FIT:
        yield from map(compute, reads)
        return
    over = Event()

    def unless_over(one: SourceRead) -> dict[int, pa.Table]:
        try:
            return {} if over.is_set() else compute(one)
        except BaseException:
            over.set()  # what others compute is not asked for any more
            raise

    with ThreadPoolExecutor(2, thread_name_prefix="mlcore-source") as threads:
        try:
            yield from threads.map(unless_over, reads)
        finally:
            over.set()


def _bytes(read: SourceRead) -> int:
    return sum(part.bytes for part in read.listing.found)


def _features(
    one: SourceRead,
    plan: RetrievalPlan,
    spine: pa.Table,
    asked: Mapping[tuple[str, ...], SortedRows],
    progress: Progress,
) -> dict[int, pa.Table]:
    """Read a source once, and compute all views that are made of it."""
    with progress.stage(f"reading {one.listing.source.name}", unit="rows") as stage:
        events = one.read()
        stage.advance(events.num_rows)
    found = {}
    for place, columns in zip(one.places, one.needed, strict=True):
        read = plan.reads[place]
        with progress.stage(f"computing {read.view.name}", total=spine.num_rows, unit="rows") as stage:
            found[place] = compute_view(
                events.select(columns), spine, read, time_column=plan.time_column, asked=asked[_columns(read)]
            )
            stage.advance(spine.num_rows)
    return found


def _columns(read: ViewRead) -> tuple[str, ...]:
    """The entity rows' columns that are a view's keys."""
    return tuple(column for _, column in read.keys)
