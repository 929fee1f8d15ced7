"""How many entity rows a training set will have at most, of which times, and what that makes its retrieval do.

Told from the statistics of the spine's source. The rows themselves are not made for it.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from mlflow_core.algebra.expression import columns_used, evaluate
from mlflow_core.algebra.types import TIME
from mlflow_core.engine.buckets.laid import layouts_there
from mlflow_core.engine.dataset.spine import label_columns
from mlflow_core.engine.estimate import (
    WORTH_A_CLUSTER,
    RowsEstimate,
    SourceEstimate,
    estimate,
    extent_of,
    row_width,
)
from mlflow_core.engine.explain import Explanation
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.plan.dataset import DatasetPlan
from mlflow_core.sources import SourceListing, open_source

__all__ = ["explain_dataset", "rows_of_dataset"]

_LABEL_BYTES = 8


def explain_dataset(
    plan: DatasetPlan,
    *,
    base: str,
    cluster: bool,
    worth_a_cluster: int = WORTH_A_CLUSTER,
    cache: Cache | None = None,
) -> Explanation:
    """Say what building a training set would do; only metadata are read.

    Args:
        plan: What would be built.
        base: Folder of the feature repository.
        cluster: Whether there is one, or one could be opened.
        worth_a_cluster: From how many bytes on it is used.
        cache: Where layouts are kept, to say how many are there.

    Raises:
        SourceError: A source cannot be read, or lacks a column.
    """
    retrieval, rows = plan.retrieval, rows_of_dataset(plan, base=base)
    found = estimate(retrieval, rows, base=base, cluster=cluster, worth_a_cluster=worth_a_cluster)
    there = None if cache is None else layouts_there(retrieval, rows, base=base, cache=cache)
    before = _read_before(plan, base)
    return Explanation(retrieval, found, heading=plan.heading(), before=before, layouts=there)


def rows_of_dataset(plan: DatasetPlan, *, base: str) -> RowsEstimate:
    """Tell how many entity rows a training set has at most, and of which times.

    Args:
        plan: What would be built.
        base: Folder of the feature repository.

    Returns:
        The estimate; its times are those that the spine's expression gives for the first and last event, None where
        it reads other columns than the event time, or statistics are missing.

    Raises:
        SourceError: The source cannot be read.
    """
    listing = open_source(plan.dataset.spine.source, base)
    rows = sum(part.rows for part in listing.found)
    kept = (listing.schema.field(name).type for name in plan.carried)
    width = row_width([TIME, *kept]) + _LABEL_BYTES
    return RowsEstimate(rows, rows * width, _times(plan, listing), exact=False)


def _read_before(plan: DatasetPlan, base: str) -> dict[str, SourceEstimate]:
    """What rows and labels are made of, which is read in this process on any route, and of all times."""
    read = open_source(plan.label.source, base)
    counted = label_columns(plan.label, read.schema.names)
    if not counted:
        return {"rows and label": _all_of(read, plan.columns)}
    return {
        "rows": _all_of(open_source(plan.dataset.spine.source, base), plan.columns),
        "label": _all_of(read, counted),
    }


def _all_of(listing: SourceListing, columns: tuple[str, ...]) -> SourceEstimate:
    size = extent_of(listing.schema, columns, listing.found)
    return SourceEstimate(listing.source.name, (), columns, (None, None), size, size)


def _times(plan: DatasetPlan, listing: SourceListing) -> tuple[int, int] | None:
    spine, column = plan.dataset.spine, plan.dataset.spine.source.event_time
    spans = [part.span for part in listing.found if part.rows]
    known = [span for span in spans if span is not None]
    if not known or len(known) < len(spans):
        return None
    ends = (min(first for first, _ in known), max(last for _, last in known))
    if spine.at is not None:
        if columns_used(listing.schema.names, spine.at) != {column}:
            return None
        events = pa.table({column: pa.array(ends, pa.int64()).cast(TIME)})
        at = evaluate(events, {"mlcore_at": spine.at}, title="spine")["mlcore_at"]
        if at.null_count:
            return None
        found = pc.min_max(at.cast(TIME).cast(pa.int64())).as_py()
        ends = (found["min"], found["max"])
    until = plan.cuts.test_until
    # Rows from the last cut on are left out.
    return ends if until is None else (min(ends[0], until), min(ends[1], until))
