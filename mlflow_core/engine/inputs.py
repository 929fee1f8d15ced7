"""What a retrieval reads: for each source once, the columns and event times that any of its views needs.

It lists sources and opens no data. Routes read what it says, and ``mlflow_core.engine.estimate`` says how much that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from mlflow_core import sources
from mlflow_core.engine.views.view import needed_columns, row_times
from mlflow_core.plan.retrieval import RetrievalPlan, ViewRead
from mlflow_core.plan.span import Span, joint_span, needed_span
from mlflow_core.sources import SourceListing

__all__ = ["SourceRead", "read_spans", "rows_span", "source_reads"]


@dataclass(frozen=True, slots=True)
class SourceRead:
    """One source, read once for all views of a plan that are made of it.

    Attributes:
        listing: The source as it was found: its columns and parts.
        places: Which of the plan's reads it is for.
        needed: For each of these the columns it needs, in the source's order.
        between: The event times that can matter to any of them, microseconds since epoch, UTC; None where no row
            asks, so that nothing need be read.
    """

    listing: SourceListing
    places: tuple[int, ...]
    needed: tuple[tuple[str, ...], ...]
    between: Span | None

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns needed, in the source's order."""
        wanted = {name for names in self.needed for name in names}
        return tuple(name for name in self.listing.schema.names if name in wanted)

    def read(self) -> pa.Table:
        """Read what is needed, in source order; shape (events, columns).

        Raises:
            SourceError: The source is empty or cannot be read.
        """
        if self.between is None:
            return self.listing.schema.empty_table().select(self.columns)
        return self.listing.read(self.columns, self.between)


def source_reads(plan: RetrievalPlan, spans: Sequence[Span] | None, *, base: str) -> tuple[SourceRead, ...]:
    """Say what is read of each source, the sources in the order of the plan's reads.

    Args:
        plan: Which views.
        spans: From ``read_spans``, for each of the plan's reads.
        base: Folder of the feature repository.

    Raises:
        SourceError: A source cannot be read, or lacks a column.
        PlanError: An expression names a column that its source does not have.
    """
    grouped: dict[bytes, list[int]] = {}
    for place, read in enumerate(plan.reads):
        grouped.setdefault(read.view.source.canonical_json(), []).append(place)
    found = []
    for places in grouped.values():
        source = plan.reads[places[0]].view.source
        listing = sources.open_source(source, base)
        needed = tuple(needed_columns(plan.reads[place], listing.schema.names) for place in places)
        between = None if spans is None else joint_span(spans[place] for place in places)
        found.append(SourceRead(listing, tuple(places), needed, between))
    return tuple(found)


def read_spans(reads: Sequence[ViewRead], rows: tuple[int, int] | None) -> tuple[Span, ...] | None:
    """Return for each view read the event times that can matter; None where there is no row.

    Args:
        reads: Which views, under which clocks.
        rows: The entity rows' first and last time, from ``rows_span``.

    Raises:
        PlanError: The clock is ``served`` and a view has no availability.
    """
    return None if rows is None else tuple(needed_span(read, *rows) for read in reads)


def rows_span(rows: pa.Table, time_column: str) -> tuple[int, int] | None:
    """Return the first and last time of entity rows, microseconds since epoch, UTC; None where there is no row.

    Args:
        rows: Entity rows.
        time_column: Their time.

    Raises:
        SourceError: There is no such column, it holds no times, or one of them is null.
    """
    times = row_times(rows, time_column)
    return (int(times.min()), int(times.max())) if len(times) else None
