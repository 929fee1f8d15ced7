"""Retrieval on a Dask cluster: views computed bucket by bucket, output rows put together range by range.

Entity rows are written to files once. A range of them is put together from those files and the views' features by
a worker, with on-demand functions, and written as a shard; a worker holds one range a thread. Only names, counts
and specs pass through scheduler and client, and of an on-demand function its import path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlflow_core import sources
from mlflow_core.algebra.on_demand import load_function
from mlflow_core.engine.assemble import assemble
from mlflow_core.engine.bucketed import ViewFiles, bucketed_view
from mlflow_core.engine.drafts import draft_folder
from mlflow_core.engine.keys import check_key_types
from mlflow_core.engine.rows import RowFiles, write_rows
from mlflow_core.engine.shards import ROWS_PER_SHARD, publish_shards, write_shard
from mlflow_core.engine.tasks import finished
from mlflow_core.plan.retrieval import RetrievalPlan
from mlflow_core.telemetry import Progress

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Cluster", "features_here", "shards_on_workers"]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where distributed work is done.

    Attributes:
        client: The cluster's client.
        workdir: A folder that this process and all workers reach.
        buckets: Into how many parts keys are parted; None chooses by size.
    """

    client: Client
    workdir: Path
    buckets: int | None


def features_here(
    cluster: Cluster, plan: RetrievalPlan, spine: pa.Table, *, base: str, progress: Progress
) -> tuple[pa.Table, ...]:
    """Compute the features of a plan's views on the workers, and bring them to this process.

    Args:
        cluster: Where.
        plan: Which views.
        spine: Entity rows, (n,).
        base: Folder of the feature repository.
        progress: Who is told.

    Returns:
        For each of the plan's reads the features under their output names, (n,), in the entity rows' order.

    Raises:
        SourceError: As for ``bucketed_view``.
        EngineError: As for ``bucketed_view``.
    """
    with _computed(cluster, plan, spine, ROWS_PER_SHARD, base, progress) as (rows, views):
        return tuple(pa.concat_tables([view.read(i) for i in range(rows.n_ranges)]) for view in views)


def shards_on_workers(
    cluster: Cluster,
    plan: RetrievalPlan,
    spine: pa.Table,
    *,
    base: str,
    out: Path,
    rows_per_shard: int,
    progress: Progress,
) -> tuple[Path, ...]:
    """Compute a plan and write its output rows as shards, all of it on the workers.

    Args:
        cluster: Where.
        plan: Which features.
        spine: Entity rows, (n,).
        base: Folder of the feature repository.
        out: The folder for the shards, which all workers reach.
        rows_per_shard: How many rows a shard has at most.
        progress: Who is told.

    Returns:
        The shards in the entity rows' order; after an error there is none.

    Raises:
        SourceError: As for ``bucketed_view``.
        EngineError: As for ``bucketed_view``; or an on-demand function fails.
        PlanError: A worker cannot import an on-demand function.
    """
    with _computed(cluster, plan, spine, rows_per_shard, base, progress) as (rows, views):
        by_path = _with_functions(plan, _Elsewhere)

        def write(draft: Path) -> list[str]:
            tasks = [
                cluster.client.submit(_write_range, number, by_path, rows, views, draft, pure=False)
                for number in range(rows.n_ranges)
            ]
            return finished(cluster.client, tasks, "writing shards", "shards", progress)

        return publish_shards(out, write)


@contextmanager
def _computed(
    cluster: Cluster,
    plan: RetrievalPlan,
    spine: pa.Table,
    rows_per_range: int,
    base: str,
    progress: Progress,
) -> Iterator[tuple[RowFiles, tuple[ViewFiles, ...]]]:
    """Compute all views into files, which are there for the time of a ``with`` block."""
    for read in plan.reads:
        check_key_types(sources.read_schema(read.view.source, base), spine.schema, read)
    with draft_folder(cluster.workdir, "engine") as folder:
        rows = write_rows(spine, folder, rows_per_range)
        views = []
        for number, read in enumerate(plan.reads):
            of_view = folder / f"view-{number:03d}"
            of_view.mkdir()
            views.append(
                bucketed_view(
                    cluster.client,
                    of_view,
                    read,
                    rows,
                    time_column=plan.time_column,
                    base=base,
                    buckets=cluster.buckets,
                    progress=progress,
                )
            )
        yield rows, tuple(views)


def _write_range(
    number: int, plan: RetrievalPlan, rows: RowFiles, views: tuple[ViewFiles, ...], draft: Path
) -> str:
    found = [view.read(number) for view in views]
    return write_shard(
        assemble(_with_functions(plan, load_function), rows.read(number), found), draft, number
    )


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """A function on its way to a worker: its import path, because code never travels."""

    import_path: str

    def __call__(self, arrays: Any) -> Any:
        return load_function(self.import_path)(arrays)


def _with_functions(plan: RetrievalPlan, of: Callable[[str], Callable[[Any], Any]]) -> RetrievalPlan:
    """Replace each on-demand function by what is made of its import path."""
    return replace(
        plan,
        on_demand=tuple(
            replace(
                one,
                on_demand=one.on_demand.model_copy(update={"function": of(one.on_demand.import_path)}),
            )
            for one in plan.on_demand
        ),
    )
