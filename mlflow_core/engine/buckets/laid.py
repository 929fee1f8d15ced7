"""How much of what a retrieval needs is laid out in the cache already: looked up by name, nothing is opened."""

from __future__ import annotations

from mlflow_core.engine.buckets.steps import layout_spec
from mlflow_core.engine.estimate import RowsEstimate, spans_of
from mlflow_core.engine.files.entries import facts_of
from mlflow_core.engine.inputs import source_reads
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.plan.retrieval import RetrievalPlan

__all__ = ["layouts_there"]


def layouts_there(plan: RetrievalPlan, rows: RowsEstimate, *, base: str, cache: Cache) -> tuple[int, int]:
    """Count the layouts that a retrieval on a cluster would use, and those of them that are there.

    Args:
        plan: What would be retrieved.
        rows: For which entity rows.
        base: Folder of the feature repository.
        cache: Where layouts are kept.

    Returns:
        How many are there, and of how many.

    Raises:
        SourceError: A source cannot be read, or lacks a column.
    """
    names: set[str] = set()
    for one in source_reads(plan, spans_of(plan, rows), base=base):
        by_keys: dict[tuple[str, ...], list[int]] = {}
        for place in one.places:
            by_keys.setdefault(plan.reads[place].view.keys, []).append(place)
        parts = () if one.between is None else one.listing.parts(one.between)
        for places in by_keys.values():
            spec = layout_spec(one.listing, [plan.reads[place] for place in places])
            names |= {spec.entry_name(part) for part in parts}
    return sum(facts_of(cache.folder / name) is not None for name in names), len(names)
