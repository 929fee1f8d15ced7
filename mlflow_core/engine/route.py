"""Routes: where a view's features are computed. What they compute is ``mlflow_core.engine.view``, on any route.

``InProcess`` reads a source and computes in this process. ``OnDask`` parts events and entity rows by key into
files, computes each bucket and writes each shard on a worker; only file names and counts pass through the
scheduler. Answers are the same on both, whatever the number of buckets: a key's rows are never parted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from mlflow_core import sources
from mlflow_core.engine.assemble import assemble
from mlflow_core.engine.bucketed import bucketed_snapshot
from mlflow_core.engine.keys import check_key_types
from mlflow_core.engine.rows import range_edges
from mlflow_core.engine.sharded import Cluster, features_here, shards_on_workers
from mlflow_core.engine.shards import write_shards
from mlflow_core.engine.snapshot import Snapshot, snapshot_at
from mlflow_core.engine.view import compute_view, needed_columns
from mlflow_core.plan.retrieval import RetrievalPlan, ViewRead
from mlflow_core.telemetry import Progress

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["InProcess", "OnDask", "Route", "choose_route"]

WORTH_A_CLUSTER = 2_000_000_000


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
            spine: Entity rows from ``mlflow_core.engine.assemble.checked_rows``, (n,).
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

    def snapshot(self, read: ViewRead, boundary: int, *, base: str, progress: Progress) -> Snapshot:
        """Compute a view at a boundary, for all its entities.

        Args:
            read: From ``mlflow_core.engine.snapshot.snapshot_read``.
            boundary: The evaluation time, microseconds since epoch, UTC.
            base: Folder of the feature repository.
            progress: Who is told.

        Raises:
            SourceError: The source cannot be read, or lacks a column.
            EngineError: A sum of integers does not fit in int64.
        """
        ...


@dataclass(frozen=True, slots=True)
class InProcess:
    """Reads and computes in this process: for what one core does in seconds."""

    def features(
        self, plan: RetrievalPlan, spine: pa.Table, *, base: str, progress: Progress
    ) -> tuple[pa.Table, ...]:
        """Compute the views' features here; see ``Route.features``."""
        return tuple(_features(read, spine, plan.time_column, base, progress) for read in plan.reads)

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

    def snapshot(self, read: ViewRead, boundary: int, *, base: str, progress: Progress) -> Snapshot:
        """Compute a view at a boundary here; see ``Route.snapshot``."""
        source = read.view.source
        columns = needed_columns(read, sources.read_schema(source, base).names)
        with progress.stage(f"materialising {read.view.name}", unit="rows") as stage:
            snapshot = snapshot_at(sources.read_table(source, base, columns), read, boundary)
            stage.advance(snapshot.table.num_rows)
        return snapshot


@dataclass(frozen=True, slots=True)
class OnDask:
    """Computes bucket by bucket on the workers of a Dask cluster.

    Args:
        client: The cluster's client.
        workdir: A folder that this process and all workers reach; each call cleans up what it wrote there.
        buckets: Into how many parts keys are parted; None chooses by the source's size.
    """

    client: Client
    workdir: Path
    buckets: int | None = None

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

    def snapshot(self, read: ViewRead, boundary: int, *, base: str, progress: Progress) -> Snapshot:
        """Compute a view at a boundary on the workers; see ``Route.snapshot``."""
        return bucketed_snapshot(
            self.client, self.workdir, read, boundary, base=base, buckets=self.buckets, progress=progress
        )

    @property
    def _cluster(self) -> Cluster:
        return Cluster(self.client, self.workdir, self.buckets)


def choose_route(
    plan: RetrievalPlan, spine_rows: int, *, base: str, client: Client | None, workdir: Path | None
) -> Route:
    """Choose by estimated size: small retrievals lose more to a cluster than they gain.

    Args:
        plan: What would be retrieved.
        spine_rows: How many entity rows.
        base: Folder of the feature repository.
        client: A cluster's client, if there is one.
        workdir: A folder shared with its workers.

    Returns:
        ``OnDask`` where a client is given and the sources and entity rows are worth it, else ``InProcess``.
    """
    if client is None or workdir is None:
        return InProcess()
    names = {read.view.source.name: read.view.source for read in plan.reads}
    size = sum(part.bytes for source in names.values() for part in sources.parts(source, base))
    size += spine_rows * 64 * max(1, len(plan.columns)) // 8
    return OnDask(client, workdir) if size > WORTH_A_CLUSTER else InProcess()


def _features(read: ViewRead, spine: pa.Table, time_column: str, base: str, progress: Progress) -> pa.Table:
    source = read.view.source
    schema = sources.read_schema(source, base)
    check_key_types(schema, spine.schema, read)
    with progress.stage(f"computing {read.view.name}", total=spine.num_rows, unit="rows") as stage:
        events = sources.read_table(source, base, needed_columns(read, schema.names))
        features = compute_view(events, spine, read, time_column=time_column)
        stage.advance(spine.num_rows)
    return features
