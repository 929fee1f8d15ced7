"""What a retrieval would read and write, told from metadata alone, and where it is worth computing.

The plan says what is computed (``mlflow_core.plan``); here are sizes: of each source the files and row groups that
can matter, of entity rows and output their bytes in memory. Sizes are of columns as Arrow holds them, texts taken
as 24 bytes each. They choose the route and nothing else: a wrong estimate costs time, never a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from mlflow_core.engine.inputs import SourceRead, read_spans, rows_span, source_reads
from mlflow_core.plan.retrieval import RetrievalPlan, ViewRead
from mlflow_core.plan.schema import view_schema
from mlflow_core.plan.span import Span
from mlflow_core.sources import SourcePart

__all__ = [
    "WORTH_A_CLUSTER",
    "Estimate",
    "Extent",
    "Place",
    "RowsEstimate",
    "SourceEstimate",
    "ViewEstimate",
    "estimate",
    "extent_of",
    "row_width",
    "rows_of",
    "size_text",
    "spans_of",
]

WORTH_A_CLUSTER = 2_000_000_000
"""Bytes from which on a cluster gains more than it costs; below, one process ends before workers have started."""

Place = Literal["in process", "on Dask"]

_TEXT_BYTES = 24
_LIST_BYTES = 64


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a source something is.

    Attributes:
        files: Files, or parts of a table.
        rows: Events.
        bytes: In memory, of the columns read.
    """

    files: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class RowsEstimate:
    """Entity rows before they are looked at.

    Attributes:
        rows: How many, or at most how many.
        bytes: In memory.
        span: Their first and last time, microseconds since epoch, UTC; None where it is not known, or no row is there.
        exact: Whether number and span are those of the rows themselves.
    """

    rows: int
    bytes: int
    span: tuple[int, int] | None
    exact: bool


@dataclass(frozen=True, slots=True)
class SourceEstimate:
    """One source, which is read once for all its views.

    Attributes:
        name: The source.
        views: The views that it is read for; none where rows or labels of a training set are made of it.
        columns: The columns read.
        between: The event times read, closed; None in it is without bound.
        left: What statistics leave of it.
        total: All of it, the same columns.
    """

    name: str
    views: tuple[str, ...]
    columns: tuple[str, ...]
    between: Span
    left: Extent
    total: Extent


@dataclass(frozen=True, slots=True)
class ViewEstimate:
    """One view.

    Attributes:
        read: The view, its features and its clock.
        columns: The columns of its source that it needs.
        between: The event times that can matter, closed; None in it is without bound.
        left: What statistics leave of its source.
        total: All of it, the same columns.
    """

    read: ViewRead
    columns: tuple[str, ...]
    between: Span
    left: Extent
    total: Extent


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a retrieval would do, and where.

    Attributes:
        rows: Its entity rows.
        views: Its views, in the plan's order.
        sources: What they read.
        output_columns: Columns of the output rows, those of the entity rows left out.
        output_bytes: The output rows in memory, those of the entity rows left out.
        place: Where it is computed.
        why: Why there, in words.
    """

    rows: RowsEstimate
    views: tuple[ViewEstimate, ...]
    sources: tuple[SourceEstimate, ...]
    output_columns: int
    output_bytes: int
    place: Place
    why: str

    @property
    def read_bytes(self) -> int:
        """What is read of all sources, in memory."""
        return sum(one.left.bytes for one in self.sources)


def rows_of(rows: pa.Table, time_column: str) -> RowsEstimate:
    """Describe entity rows that are at hand.

    Args:
        rows: Entity rows.
        time_column: Their time.

    Raises:
        SourceError: There is no time in each row.
    """
    return RowsEstimate(rows.num_rows, rows.nbytes, rows_span(rows, time_column), exact=True)


def estimate(
    plan: RetrievalPlan,
    rows: RowsEstimate,
    *,
    base: str,
    cluster: bool,
    worth_a_cluster: int = WORTH_A_CLUSTER,
) -> Estimate:
    """Say what a retrieval would read and write, and where it would be computed.

    Args:
        plan: What would be retrieved.
        rows: For which entity rows.
        base: Folder of the feature repository.
        cluster: Whether there is one, or one could be opened.
        worth_a_cluster: From how many bytes on it is used.

    Returns:
        The estimate; schemas and statistics are read for it, and no row.

    Raises:
        SourceError: A source cannot be read, or lacks a column.
        PlanError: A view does not fit its source.
    """
    spans = spans_of(plan, rows)
    views: dict[int, ViewEstimate] = {}
    found: list[SourceEstimate] = []
    width = 0
    for one in source_reads(plan, spans, base=base):
        schema, parts = one.listing.schema, one.listing.found
        found.append(_source(one, plan, rows))
        for place, columns in zip(one.places, one.needed, strict=True):
            read = plan.reads[place]
            between = spans[place] if spans is not None else (None, None)
            views[place] = ViewEstimate(
                read,
                columns,
                between,
                _left(schema, columns, parts, between, rows),
                extent_of(schema, columns, parts),
            )
            features = view_schema(read.view, schema)
            width += row_width(features.field(name).type for name in read.shown)
    on_demand = [name for one in plan.on_demand for name in one.features or one.on_demand.outputs]
    output = rows.rows * (width + 8 * len(on_demand))
    size = sum(one.left.bytes for one in found)
    where, why = _choice(size, rows.bytes, output, cluster=cluster, limit=worth_a_cluster)
    return Estimate(
        rows,
        tuple(views[number] for number in range(len(plan.reads))),
        tuple(found),
        len(plan.columns) + len(on_demand),
        output,
        where,
        why,
    )


def spans_of(plan: RetrievalPlan, rows: RowsEstimate) -> tuple[Span, ...] | None:
    """Return for each of a plan's reads the event times that can matter, as far as they are known.

    Args:
        plan: Which views.
        rows: For which entity rows.

    Returns:
        As ``read_spans``; all times where those of the rows are not known.
    """
    if rows.span is not None:
        return read_spans(plan.reads, rows.span)
    return None if rows.exact else tuple((None, None) for _ in plan.reads)


def extent_of(schema: pa.Schema, columns: Sequence[str], parts: Sequence[SourcePart]) -> Extent:
    """Say how much some columns of some parts of a source are.

    Args:
        schema: The source's columns.
        columns: Those read.
        parts: The parts read.
    """
    rows = sum(part.rows for part in parts)
    # A part's name is its file's, with the row groups where it is not all of it.
    files = {part.name.partition("[")[0] for part in parts}
    return Extent(len(files), rows, rows * row_width(schema.field(name).type for name in columns))


def row_width(types: Iterable[pa.DataType]) -> int:
    """Return about how many bytes a row of some columns takes in memory.

    Example:
        >>> row_width([pa.int64(), pa.string(), pa.bool_()])
        33
    """
    return sum(_width(kind) for kind in types)


def _width(kind: pa.DataType) -> int:
    if pa.types.is_nested(kind):
        return _LIST_BYTES
    if pa.types.is_null(kind):
        return 0
    if pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind):
        return max(1, int(kind.bit_width) // 8)
    return _TEXT_BYTES


def _source(one: SourceRead, plan: RetrievalPlan, rows: RowsEstimate) -> SourceEstimate:
    schema, parts, between = one.listing.schema, one.listing.found, one.between or (None, None)
    return SourceEstimate(
        one.listing.source.name,
        tuple(plan.reads[place].view.name for place in one.places),
        one.columns,
        between,
        _left(schema, one.columns, parts, between, rows),
        extent_of(schema, one.columns, parts),
    )


def _left(
    schema: pa.Schema, columns: Sequence[str], parts: Sequence[SourcePart], between: Span, rows: RowsEstimate
) -> Extent:
    if rows.exact and rows.rows == 0:
        return Extent(0, 0, 0)
    return extent_of(schema, columns, [left for part in parts if (left := part.within(between)) is not None])


def _choice(read: int, given: int, output: int, *, cluster: bool, limit: int) -> tuple[Place, str]:
    told = (
        f"{size_text(read)} to read, {size_text(given)} of entity rows and {size_text(output)} to give back"
    )
    if read + given + output <= limit:
        return "in process", f"{told} are not more than {size_text(limit)}"
    if cluster:
        return "on Dask", f"{told} are more than {size_text(limit)}"
    return "in process", f"{told} are more than {size_text(limit)}, but there is no cluster"


def size_text(size: int) -> str:
    """Write a number of bytes for a person.

    Example:
        >>> size_text(999), size_text(48_200_000)
        ('999 B', '48.2 MB')
    """
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.95:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
