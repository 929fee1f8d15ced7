"""Retrieval: entity rows with the features of a plan, one row each, in the caller's order.

It walks a ``RetrievalPlan``: each view is joined by the route, then on-demand features are computed. Where data
is and where it is computed is the route's business, what a feature means the algebra's.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from mlflow_core.engine.files.shards import ROWS_PER_SHARD
from mlflow_core.engine.route import InProcess, Route
from mlflow_core.engine.views.assemble import assemble, checked_rows
from mlflow_core.plan.retrieval import RetrievalPlan
from mlflow_core.telemetry import Progress, SilentProgress

__all__ = ["ROWS_PER_SHARD", "retrieve", "retrieve_to_shards"]


def retrieve(
    plan: RetrievalPlan,
    spine: pa.Table,
    *,
    base: str,
    route: Route | None = None,
    progress: Progress | None = None,
) -> pa.Table:
    """Join a plan's features to entity rows.

    Args:
        plan: Which features, under which clock.
        spine: Entity rows: the key columns, the time column (naive is UTC), request fields; (n,).
        base: Folder of the feature repository; relative paths start there.
        route: Where to compute; in this process by default.
        progress: Who is told; nobody by default.

    Returns:
        The entity rows' columns, their times as ``timestamp[us, UTC]``, then the plan's columns and the on-demand
        features; n rows in the same order, duplicates included.

    Raises:
        SourceError: A source cannot be read, or the entity rows lack a column or have one of the wrong type.
        UsageError: A column of the entity rows is called like a feature.
        EngineError: A value cannot be computed: an overflowing sum, an on-demand function that fails.
    """
    route, progress = route or InProcess(), progress or SilentProgress()
    spine = checked_rows(plan, spine)
    return assemble(plan, spine, route.features(plan, spine, base=base, progress=progress))


def retrieve_to_shards(
    plan: RetrievalPlan,
    spine: pa.Table,
    *,
    base: str,
    out: Path,
    route: Route | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Join a plan's features to entity rows and write them as Parquet shards.

    An on-demand function is called once for each shard, with its rows alone: each row must mean the same in
    whatever company, as it does when it is served. On a cluster no feature comes to this process.

    Args:
        plan: As for ``retrieve``.
        spine: As for ``retrieve``.
        base: As for ``retrieve``.
        out: The folder for the shards, which the route's workers reach; it is made if need be.
        route: As for ``retrieve``.
        rows_per_shard: How many rows a shard has at most.
        progress: As for ``retrieve``.

    Returns:
        The shards in the entity rows' order; at least one, which may be empty. After an error there is none.

    Raises:
        SourceError: As for ``retrieve``.
        EngineError: As for ``retrieve``.
        PlanError: A worker cannot import an on-demand function.
    """
    return (route or InProcess()).shards(
        plan,
        checked_rows(plan, spine),
        base=base,
        out=out,
        rows_per_shard=rows_per_shard,
        progress=progress or SilentProgress(),
    )
