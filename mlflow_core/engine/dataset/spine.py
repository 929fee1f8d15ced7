"""The entity rows of a training set: who, as of when, with which label, in which part.

Features are not looked at here. The naive truth is ``tests/oracle/labels.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlflow_core.algebra.expression import evaluate, holds
from mlflow_core.algebra.types import TIME
from mlflow_core.engine.dataset.split import Assignment, assign_parts
from mlflow_core.engine.events.erasing import without_erased
from mlflow_core.engine.views.view import compute_view, needed_columns
from mlflow_core.errors import SourceError
from mlflow_core.plan.dataset import COUNTED, KNOWN, PARTS, TIME_COLUMN, DatasetPlan, LabelPlan
from mlflow_core.sources import read_schema, read_table
from mlflow_core.spec import Source

__all__ = ["EntityRows", "entity_rows", "final_versions", "label_columns", "making_rows", "unlabelled"]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class EntityRows:
    """The rows of a training set before their features.

    Attributes:
        table: Query time, kept columns and label, all parts after one another; within a part in source order.
        rows: Rows by part.
        left_out: Rows left out, by reason.
        left_out_of: The same for each part that the query time alone would give.
    """

    table: pa.Table
    rows: Mapping[str, int]
    left_out: Mapping[str, int]
    left_out_of: Mapping[str, Mapping[str, int]]


def entity_rows(plan: DatasetPlan, base: str) -> EntityRows:
    """Make the rows of a training set: query time, kept columns and label, by part.

    Where the source has an ``event_id``, the final version of an event makes its row and the earlier ones none:
    there is one row for each thing that happened, however often it was corrected.

    Args:
        plan: What to compute.
        base: Folder that relative source paths start at.

    Raises:
        SourceError: The source has no event that makes a row.
    """
    spine = plan.dataset.spine
    events = making_rows(plan, final_versions(read_table(spine.source, base, plan.columns), spine.source))
    if events.num_rows == 0:
        raise SourceError(
            "has no event that makes a row of the dataset",
            object=spine.source.title,
            place=spine.source.place,
        )
    kept, computed = unlabelled(plan, events, with_label=True)
    label, known, settled = _labels(plan, base, events, kept, computed)
    parts = assign_parts(
        _ints(kept[TIME_COLUMN]), known, _numpy(pc.is_valid(label)), plan.cuts, settled=settled
    )
    return _ordered(kept.append_column(plan.label.name, label), parts)


def making_rows(plan: DatasetPlan, events: pa.Table) -> pa.Table:
    """Keep the events that make a row of a training set.

    Args:
        plan: The training set's.
        events: Of the spine's source, with the plan's columns, each event's final version.
    """
    spine = plan.dataset.spine
    kept = without_erased(events, spine.source, plan.erased)
    if spine.where is None:
        return kept
    return kept.filter(holds(kept, spine.where, title=f"{_title(plan)}: where"))


def unlabelled(plan: DatasetPlan, events: pa.Table, *, with_label: bool = False) -> tuple[pa.Table, pa.Table]:
    """Make rows of events: query time and kept columns.

    Args:
        plan: The training set's.
        events: From ``making_rows``, (n,).
        with_label: Whether a label that is an expression over the event is computed beside the time.

    Returns:
        The rows, (n,); and what was computed for them, beside the events' own columns.

    Raises:
        SourceError: An event has no query time.
    """
    spine = plan.dataset.spine
    expressions = {"mlcore_at": spine.at or f'"{spine.source.event_time}"'}
    if with_label and plan.label.expression is not None:
        expressions["mlcore_label"] = plan.label.expression
    computed = evaluate(events, expressions, title=_title(plan))
    at = computed["mlcore_at"].cast(TIME)
    if at.null_count:
        raise SourceError(
            f"{at.null_count} events have no query time: {expressions['mlcore_at']} is null",
            object=spine.source.title,
            place=spine.place,
            hint="Leave them out with Spine(where=...).",
        )
    kept = pa.table([at, *(events[name] for name in plan.carried)], names=[TIME_COLUMN, *plan.carried])
    return kept, computed


def _title(plan: DatasetPlan) -> str:
    return f"spine of {plan.dataset.features.title}"


def final_versions(events: pa.Table, source: Source) -> pa.Table:
    """Keep the last version of each event, without deleted ones; rows stay in source order.

    Args:
        events: All versions, in source order.
        source: Says which columns are identity, order of versions and deletion.

    Returns:
        The events; unchanged for a source without ``event_id``. A row without an identity is an event of its own.
    """
    if source.event_id is None:
        return events
    event_time = _ints(events[source.event_time].cast(TIME))
    known = _or(events, source.known_at, event_time)
    created = _or(events, source.created, np.maximum(known, event_time))
    identity = pc.dictionary_encode(events[source.event_id].combine_chunks())
    codes = identity.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    # A row without an identity gets one that no other row has.
    codes = np.where(codes < 0, len(identity.dictionary) + np.arange(len(codes)), codes)
    order = np.lexsort((np.arange(len(codes)), created, codes))
    last = np.append(np.diff(codes[order]) != 0, True) if len(order) else np.zeros(0, np.bool_)
    kept = events.take(pa.array(np.sort(order[last])))
    if source.deleted is not None:
        kept = kept.filter(pc.invert(pc.fill_null(kept[source.deleted], False)))
    return kept


def label_columns(label: LabelPlan, names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that a label reads of its source; none where it is an expression over the spine's own events.

    Args:
        label: The label.
        names: The source's columns, in its order.
    """
    if label.read is None:
        return ()
    source = label.source
    own = {source.known_at, source.created, source.event_id, source.deleted}
    wanted = own | {*needed_columns(label.read, names)}
    return tuple(name for name in names if name in wanted)


def _labels(
    plan: DatasetPlan, base: str, events: pa.Table, kept: pa.Table, computed: pa.Table
) -> tuple[pa.ChunkedArray, Ints, Bools | None]:
    """Return each row's label, when it was known, and whether the data reaches to the end of its horizon."""
    if plan.label.read is None:
        source = plan.label.source
        known = _ints(computed[source.event_time].cast(TIME))
        if plan.label.known_at is not None:
            known = np.maximum(known, _or(events, plan.label.known_at, known))
        return computed["mlcore_label"], known, None
    return _aggregated(plan, base, kept)


def _aggregated(plan: DatasetPlan, base: str, kept: pa.Table) -> tuple[pa.ChunkedArray, Ints, Bools | None]:
    label = plan.label
    assert label.read is not None
    columns = label_columns(label, read_schema(label.source, base).names)
    future = final_versions(read_table(label.source, base, columns), label.source)
    t = _ints(kept[TIME_COLUMN])
    ends = pa.array(t + label.horizon, TIME)
    queries = kept.select(list(label.read.view.keys)).append_column(TIME_COLUMN, ends)
    found = compute_view(future, queries, label.read)
    # An absence is known when the horizon is over, and when all is known that might have been a presence.
    last_known = found[KNOWN].cast(TIME)
    last = np.where(_numpy(pc.is_valid(last_known)), _ints(last_known), np.iinfo(np.int64).min)
    known = np.where(_ints(found[COUNTED]) > 0, last, np.maximum(last, t + label.horizon))
    event_time = _ints(future[label.source.event_time].cast(TIME))
    known_at = np.maximum(_or(future, label.source.known_at, event_time), event_time)
    settled = t + label.horizon <= (known_at.max() if len(known_at) else 0)
    return found[label.name], known, settled


def _ordered(table: pa.Table, parts: Assignment) -> EntityRows:
    rows = parts.rows()
    order = np.concatenate([np.flatnonzero(parts.part == i) for i in range(len(PARTS))])
    by_part = {part: parts.left_out(part) for part in PARTS}
    return EntityRows(table.take(pa.array(order)), rows, parts.left_out(), by_part)


def _or(table: pa.Table, column: str | None, otherwise: Ints) -> Ints:
    """Return a time column in microseconds, with its nulls, or all of it if there is none, taken from another."""
    if column is None:
        return otherwise
    times = table[column].cast(TIME)
    return np.where(_numpy(pc.is_valid(times)), _ints(times), otherwise)


def _ints(times: pa.ChunkedArray) -> Ints:
    values: Ints = pc.fill_null(times.cast(pa.int64()), 0).to_numpy()
    return values


def _numpy(flags: pa.ChunkedArray) -> Bools:
    values: Bools = flags.to_numpy()
    return values
