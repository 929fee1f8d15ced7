"""From entity rows and their views' features to output rows: columns in order, on-demand features, names.

It works on any range of entity rows, in any process. Where the features came from is the route's business.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from mlflow_core.algebra.on_demand import evaluate_on_demand, input_names
from mlflow_core.engine.events.arrays import plain
from mlflow_core.engine.times import time_array
from mlflow_core.engine.views.view import row_times
from mlflow_core.errors import SourceError, UsageError, nearest
from mlflow_core.plan.retrieval import OnDemandRead, RetrievalPlan

__all__ = ["assemble", "checked_rows"]


def checked_rows(plan: RetrievalPlan, spine: pa.Table) -> pa.Table:
    """Check entity rows before anything is computed.

    Args:
        plan: What they are joined to.
        spine: Entity rows, (n,).

    Returns:
        The rows with their times as ``timestamp[us, UTC]``.

    Raises:
        SourceError: There is no time in each row, a key is no valid text, or a field that on-demand features read is
            missing.
        UsageError: A column is called like a feature.
    """
    times = time_array(row_times(spine, plan.time_column))
    _check_texts(plan, spine)
    for name in plan.columns:
        if name in spine.column_names:
            raise _taken(name)
    for one in plan.on_demand:
        for field in one.on_demand.request:
            if field not in spine.column_names:
                raise SourceError(
                    f'no column "{field}", which {one.on_demand.title} reads from the request',
                    object="entity rows",
                    hint=nearest(field, spine.column_names),
                )
    return spine.set_column(spine.column_names.index(plan.time_column), plan.time_column, times)


def _check_texts(plan: RetrievalPlan, spine: pa.Table) -> None:
    """Refuse keys that no source can hold, because sources are read as UTF-8 only."""
    for name in {column for read in plan.reads for _, column in read.keys} & set(spine.column_names):
        try:
            spine[name].validate(full=True)
        except pa.ArrowInvalid as error:
            if "UTF8" not in str(error):
                raise
            raise SourceError(
                f'key column "{name}" holds text that is not UTF-8',
                object="entity rows",
                hint="Write it in UTF-8, or store it as binary here and in the source.",
            ) from error


def assemble(plan: RetrievalPlan, spine: pa.Table, found: Sequence[pa.Table]) -> pa.Table:
    """Put a range of entity rows and their features together.

    Args:
        plan: Which features, in which order.
        spine: From ``checked_rows``, or a range of it, (n,).
        found: The features of each of the plan's reads under their output names, (n,) each.

    Returns:
        The entity rows' columns, then the plan's and the on-demand features, (n,).

    Raises:
        UsageError: Two columns have the same name, or an on-demand function returns no such feature.
        EngineError: An on-demand function fails.
    """
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


def _with_column(result: pa.Table, name: str, column: pa.ChunkedArray, spine: pa.Table) -> pa.Table:
    if name in spine.column_names:
        raise _taken(name)
    if name in result.column_names:
        raise UsageError(f'two features are called "{name}"', hint="Ask for full feature names.")
    return result.append_column(name, column)


def _taken(name: str) -> UsageError:
    return UsageError(
        f'the entity rows already have a column "{name}", which is also a feature asked for',
        hint="Rename it, or ask for full feature names.",
    )


def _on_demand(
    one: OnDemandRead, plan: RetrievalPlan, found: Sequence[pa.Table], spine: pa.Table
) -> dict[str, pa.Array]:
    inputs = {}
    for (view, feature), name in input_names(one.on_demand).items():
        at = plan.feeding(view, feature)
        inputs[name] = plain(found[at][plan.reads[at].output(feature)], name=feature, title=view)
    for field in one.on_demand.request:
        inputs[field] = plain(spine[field], name=field, title="entity rows")
    results = evaluate_on_demand(one.on_demand, inputs)
    wanted = one.features or tuple(results)
    for name in wanted:
        if name not in results:
            raise UsageError(f'{one.on_demand.title} has no feature "{name}"', hint=nearest(name, results))
    return {name if one.prefix is None else f"{one.prefix}__{name}": results[name] for name in wanted}
