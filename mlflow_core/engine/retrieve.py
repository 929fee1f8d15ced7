"""Retrieval: entity rows with the features of a plan, one row each, in the caller's order.

It walks a ``RetrievalPlan``: each view is joined by the route, then on-demand features are computed. Where data
is and where it is computed is the route's business, what a feature means the algebra's.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core.algebra.on_demand import evaluate_on_demand, input_names
from mlflow_core.engine.arrays import plain
from mlflow_core.engine.route import InProcess, Route
from mlflow_core.engine.times import time_array
from mlflow_core.engine.view import row_times
from mlflow_core.errors import SourceError, UsageError, nearest
from mlflow_core.plan.retrieval import OnDemandRead, RetrievalPlan
from mlflow_core.telemetry import Progress, SilentProgress

__all__ = ["ROWS_PER_SHARD", "retrieve", "retrieve_to_shards", "write_shards"]

ROWS_PER_SHARD = 250_000


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
    spine = _checked_spine(plan, spine)
    found = [
        route.features(read, spine, time_column=plan.time_column, base=base, progress=progress)
        for read in plan.reads
    ]
    outputs = {
        read.output(name): features[read.output(name)]
        for read, features in zip(plan.reads, found, strict=True)
        for name in read.shown
    }
    result = spine
    for name in plan.columns:
        result = _with_column(result, name, outputs[name], spine)
    for one in plan.on_demand:
        for name, column in _on_demand(one, plan, found, spine).items():
            result = _with_column(result, name, column, spine)
    return result


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

    Args:
        plan: As for ``retrieve``.
        spine: As for ``retrieve``.
        base: As for ``retrieve``.
        out: The folder for the shards; it is made if need be.
        route: As for ``retrieve``.
        rows_per_shard: How many rows a shard has at most.
        progress: As for ``retrieve``.

    Returns:
        The shards in the entity rows' order; at least one, which may be empty.

    Raises:
        SourceError: As for ``retrieve``.
        EngineError: As for ``retrieve``.
    """
    table = retrieve(plan, spine, base=base, route=route, progress=progress)
    return write_shards(table, out, rows_per_shard=rows_per_shard)


def write_shards(table: pa.Table, out: Path, *, rows_per_shard: int = ROWS_PER_SHARD) -> tuple[Path, ...]:
    """Write a table as ``part-00000.parquet`` and so on, each complete or not there at all.

    Args:
        table: The rows, in order.
        out: The folder.
        rows_per_shard: How many rows a shard has at most.
    """
    out.mkdir(parents=True, exist_ok=True)
    shards = []
    for number, first in enumerate(range(0, max(1, table.num_rows), rows_per_shard)):
        shard = out / f"part-{number:05d}.parquet"
        half = out / f".{shard.name}.{uuid.uuid4().hex}"
        try:
            pq.write_table(table.slice(first, rows_per_shard), half, coerce_timestamps="us")
            half.replace(shard)
        finally:
            half.unlink(missing_ok=True)
        shards.append(shard)
    return tuple(shards)


def _checked_spine(plan: RetrievalPlan, spine: pa.Table) -> pa.Table:
    """The entity rows with their times in microseconds."""
    times = time_array(row_times(spine, plan.time_column))
    return spine.set_column(spine.column_names.index(plan.time_column), plan.time_column, times)


def _with_column(result: pa.Table, name: str, column: pa.ChunkedArray, spine: pa.Table) -> pa.Table:
    if name in spine.column_names:
        raise UsageError(
            f'the entity rows already have a column "{name}", which is also a feature asked for',
            hint="Rename it, or ask for full feature names.",
        )
    if name in result.column_names:
        raise UsageError(f'two features are called "{name}"', hint="Ask for full feature names.")
    return result.append_column(name, column)


def _on_demand(
    one: OnDemandRead, plan: RetrievalPlan, found: Sequence[pa.Table], spine: pa.Table
) -> dict[str, pa.Array]:
    inputs = {}
    for (view, feature), name in input_names(one.on_demand).items():
        at = plan.feeding(view, feature)
        inputs[name] = plain(found[at][plan.reads[at].output(feature)], name=feature, title=view)
    for field in one.on_demand.request:
        if field not in spine.column_names:
            raise SourceError(
                f'no column "{field}", which {one.on_demand.title} reads from the request',
                object="entity rows",
                hint=nearest(field, spine.column_names),
            )
        inputs[field] = plain(spine[field], name=field, title="entity rows")
    results = evaluate_on_demand(one.on_demand, inputs)
    wanted = one.features or tuple(results)
    for name in wanted:
        if name not in results:
            raise UsageError(f'{one.on_demand.title} has no feature "{name}"', hint=nearest(name, results))
    return {name if one.prefix is None else f"{one.prefix}__{name}": results[name] for name in wanted}
