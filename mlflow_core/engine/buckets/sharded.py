"""Retrieval on a Dask cluster: layouts, then buckets, then output rows range by range.

What a source's parts lack in the cache is laid out together with the parting of the entity rows; then each bucket is
computed, then each range of rows is put together with on-demand functions and written as a shard; a worker holds one
part, bucket or range a thread. Only names, counts and specs pass through scheduler and client, and of an on-demand
function its import path. What there is to do is ``mlflow_core.engine.buckets.steps``' to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from mlflow_core.algebra.on_demand import load_function
from mlflow_core.engine.buckets.bucketed import FeatureFiles, compute_bucket
from mlflow_core.engine.buckets.rows import PartedRows, RowFiles, write_rows
from mlflow_core.engine.buckets.steps import Cluster, Steps, laid_out, plan_steps
from mlflow_core.engine.cluster.tasks import Amount, run_tasks
from mlflow_core.engine.files.drafts import draft_folder
from mlflow_core.engine.files.shards import ROWS_PER_SHARD, publish_shards, write_shard
from mlflow_core.engine.views.assemble import assemble
from mlflow_core.errors import PlanError
from mlflow_core.plan.erasures import NOTHING_ERASED
from mlflow_core.plan.retrieval import RetrievalPlan
from mlflow_core.spec import OnDemand
from mlflow_core.spec.code import code_digest
from mlflow_core.telemetry import Progress

__all__ = ["features_here", "shards_on_workers"]


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
        SourceError: As for ``compute_view``; or a worker's file cannot be read.
        EngineError: A sum of integers does not fit in int64, a bucket kills its workers, or the cluster goes away.
    """
    with _computed(cluster, plan, spine, ROWS_PER_SHARD, base, progress) as (rows, files):
        ranges = [_found(number, plan, files) for number in range(rows.n_ranges)]
        return tuple(pa.concat_tables(pieces) for pieces in zip(*ranges, strict=True))


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
        SourceError: As for ``features_here``.
        EngineError: As for ``features_here``; or an on-demand function fails.
        PlanError: A worker cannot import an on-demand function, or finds other code there.
    """
    with _computed(cluster, plan, spine, rows_per_shard, base, progress) as (rows, files):
        by_path = _with_functions(plan.without(NOTHING_ERASED), _Elsewhere.of)

        def write(draft: Path) -> list[str]:
            calls = [(_write_range, number, by_path, rows, files, draft) for number in range(rows.n_ranges)]
            written = run_tasks(
                cluster.client, calls, "writing shards", "shards", progress, amount=lambda done: done[1]
            )
            return [name for name, _ in written]

        return publish_shards(out, write)


@contextmanager
def _computed(
    cluster: Cluster,
    plan: RetrievalPlan,
    spine: pa.Table,
    rows_per_range: int,
    base: str,
    progress: Progress,
) -> Iterator[tuple[RowFiles, tuple[FeatureFiles, ...]]]:
    """Compute all views into files, which are there for the time of a ``with`` block."""
    steps = plan_steps(cluster, plan, spine, base=base)
    _share_code(cluster, plan)
    with draft_folder(cluster.workdir, "engine") as folder:
        rows = write_rows(spine, folder, rows_per_range)
        files = tuple(
            FeatureFiles(folder, PartedRows(rows, keys, plan.time_column, steps.n_buckets, number), joined)
            for number, (keys, joined) in enumerate(zip(steps.keys, steps.joined, strict=True))
        )
        with laid_out(cluster, steps, [one.parted for one in files], progress):
            _compute(cluster, steps, files, progress)
        yield rows, files


def _compute(cluster: Cluster, steps: Steps, files: tuple[FeatureFiles, ...], progress: Progress) -> None:
    calls = [
        (compute_bucket, bucket, one, cluster.limits) for bucket in range(steps.n_buckets) for one in files
    ]
    names = ", ".join(read.view.name for joined in steps.joined for read in joined.reads)
    run_tasks(cluster.client, calls, f"computing {names}", "buckets", progress)


def _found(number: int, plan: RetrievalPlan, files: tuple[FeatureFiles, ...]) -> list[pa.Table]:
    """The features of one range of entity rows, for each of the plan's reads."""
    by_place: dict[int, pa.Table] = {}
    for one in files:
        by_place |= one.read(number)
    return [by_place[place] for place in range(len(plan.reads))]


def _write_range(
    number: int, plan: RetrievalPlan, rows: RowFiles, files: tuple[FeatureFiles, ...], draft: Path
) -> tuple[str, Amount]:
    table = assemble(_with_functions(plan, _Elsewhere.here), rows.read(number), _found(number, plan, files))
    name = write_shard(table, draft, number)
    return name, Amount(rows=table.num_rows, bytes=(draft / name).stat().st_size)


def _share_code(cluster: Cluster, plan: RetrievalPlan) -> None:
    if cluster.client is not None and (
        plan.on_demand or any(read.view.source.transform for read in plan.reads)
    ):
        from mlflow_core.engine.cluster.project_code import share_code  # imports Dask

        share_code(cluster.client, plan.reads, plan)


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """A function on its way to a worker: its import path and a digest, because code never travels."""

    import_path: str
    code: str

    @classmethod
    def of(cls, on_demand: OnDemand) -> _Elsewhere:
        return cls(on_demand.import_path, code_digest(on_demand.function))

    @staticmethod
    def here(on_demand: OnDemand) -> Callable[[Any], Any]:
        """Return the function that was sent here as an import path."""
        sent = cast(_Elsewhere, on_demand.function)
        found = load_function(sent.import_path)
        if code_digest(found) != sent.code:
            raise PlanError(
                "a worker finds other code than the process that asked for it",
                object=on_demand.title,
                place=on_demand.place,
                hint="All machines need the project's folder in one state, and one project at a time on a cluster.",
            )
        return found


def _with_functions(plan: RetrievalPlan, of: Callable[[OnDemand], Any]) -> RetrievalPlan:
    """Replace each on-demand function by what is made of its declaration."""
    return replace(
        plan,
        on_demand=tuple(
            replace(one, on_demand=one.on_demand.model_copy(update={"function": of(one.on_demand)}))
            for one in plan.on_demand
        ),
    )
