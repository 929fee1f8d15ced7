"""Routes: where a view's features are computed. What they compute is ``mlflow_core.engine.view``, on any route.

``InProcess`` reads a source and computes in this process. ``OnDask`` parts events and entity rows by key into
files and computes each bucket on a worker; only file names and counts pass through the scheduler. Answers are
the same on both, whatever the number of buckets: a key's rows are never parted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from mlflow_core import sources
from mlflow_core.engine.bucketed import bucketed_features, bucketed_snapshot
from mlflow_core.engine.keys import check_key_types
from mlflow_core.engine.snapshot import Snapshot, snapshot_at
from mlflow_core.engine.view import compute_view, needed_columns
from mlflow_core.plan.retrieval import RetrievalPlan, ViewRead
from mlflow_core.telemetry import Progress

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["InProcess", "OnDask", "Route", "choose_route"]

WORTH_A_CLUSTER = 2_000_000_000


class Route(Protocol):
    """A way to compute one view's features: at entity rows, or for all entities at a boundary."""

    def features(
        self, read: ViewRead, spine: pa.Table, *, time_column: str, base: str, progress: Progress
    ) -> pa.Table:
        """Compute a view's features.

        Args:
            read: The view, the features wanted, the clock and the keys.
            spine: Entity rows, (n,).
            time_column: The entity rows' time.
            base: Folder of the feature repository; relative paths start there.
            progress: Who is told.

        Returns:
            The features under their output names, (n,), in the entity rows' order.

        Raises:
            SourceError: The source cannot be read, or the entity rows' keys or times do not fit it.
            EngineError: A sum of integers does not fit in int64.
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
        self, read: ViewRead, spine: pa.Table, *, time_column: str, base: str, progress: Progress
    ) -> pa.Table:
        """Compute a view's features here; see ``Route.features``."""
        source = read.view.source
        schema = sources.read_schema(source, base)
        check_key_types(schema, spine.schema, read)
        with progress.stage(f"computing {read.view.name}", total=spine.num_rows, unit="rows") as stage:
            events = sources.read_table(source, base, needed_columns(read, schema.names))
            features = compute_view(events, spine, read, time_column=time_column)
            stage.advance(spine.num_rows)
        return features

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
        self, read: ViewRead, spine: pa.Table, *, time_column: str, base: str, progress: Progress
    ) -> pa.Table:
        """Compute a view's features on the workers; see ``Route.features``."""
        return bucketed_features(
            self.client,
            self.workdir,
            read,
            spine,
            time_column=time_column,
            base=base,
            buckets=self.buckets,
            progress=progress,
        )

    def snapshot(self, read: ViewRead, boundary: int, *, base: str, progress: Progress) -> Snapshot:
        """Compute a view at a boundary on the workers; see ``Route.snapshot``."""
        return bucketed_snapshot(
            self.client, self.workdir, read, boundary, base=base, buckets=self.buckets, progress=progress
        )


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
