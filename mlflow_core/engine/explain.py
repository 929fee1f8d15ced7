"""A retrieval's plan and estimate as text for people, and as data for programs. It computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mlflow_core.config.times import format_time
from mlflow_core.engine.estimate import (
    Estimate,
    Extent,
    RowsEstimate,
    SourceEstimate,
    ViewEstimate,
    size_text,
)
from mlflow_core.errors import UsageError
from mlflow_core.plan.retrieval import RetrievalPlan
from mlflow_core.plan.span import Span
from mlflow_core.spec import FeatureView, WindowColumn

__all__ = ["Explanation"]

_INDENT = 10


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """What a retrieval would do: what is read and why that much, what comes out, where it is computed and why.

    Attributes:
        plan: What is computed.
        estimate: How much that is, and where.
        layouts: How many of the layouts that a cluster would use are in its cache already, and of how many; None
            where nobody looked.
        heading: What goes before, e.g. how entity rows are made; each line of its own.
        before: What is read for it before the views are: by what is made of it, e.g. rows and label.
    """

    plan: RetrievalPlan
    estimate: Estimate
    heading: str = ""
    before: Mapping[str, SourceEstimate] = field(default_factory=dict)
    layouts: tuple[int, int] | None = None

    def describe(self) -> str:
        """Return it as text: the views, then entity rows, output and route."""
        found = self.estimate
        lines = [self.heading] if self.heading else []
        lines += [
            f"reads    {one.name} for {made}, columns {', '.join(one.columns)}: {_reads(one.left, one.total)}"
            for made, one in self.before.items()
        ]
        for view in found.views:
            lines += _view(view)
        lines += [
            f"{one.on_demand.name}  on demand, {one.on_demand.import_path}" for one in self.plan.on_demand
        ]
        lines += [f"source   {_shared(one)}" for one in found.sources if len(one.views) > 1]
        lines.append(f"given    {_rows(found.rows)}")
        lines.append(f"output   {found.output_columns} columns, about {size_text(found.output_bytes)}")
        lines.append(f"route    {found.place}: {found.why}")
        if self.layouts is not None and found.place == "on Dask":
            lines.append("cached   {:,} of {:,} parts are laid out already".format(*self.layouts))
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.describe()

    __repr__ = __str__

    def to_json(self) -> dict[str, Any]:
        """Return it as values that JSON has; times in microseconds since epoch, UTC, sizes in bytes."""
        found = self.estimate
        return {
            "views": [_view_data(view) for view in found.views],
            "on_demand": [
                {"name": one.on_demand.name, "function": one.on_demand.import_path}
                for one in self.plan.on_demand
            ],
            "before": {made: _source_data(one) for made, one in self.before.items()},
            "sources": [{**_source_data(one), "views": list(one.views)} for one in found.sources],
            "rows": asdict(found.rows),
            "output": {"columns": found.output_columns, "bytes": found.output_bytes},
            "read_bytes": found.read_bytes,
            "route": {"place": found.place, "why": found.why},
            "layouts": None if self.layouts is None else {"there": self.layouts[0], "of": self.layouts[1]},
        }


def _view(found: ViewEstimate) -> list[str]:
    read, view = found.read, found.read.view
    on = ", ".join(column for _, column in read.keys) or "nothing"
    lines = [
        f"{view.name}  clock={read.clock}  on {on}  {len(read.features)} features of {view.source.name}",
        _line("columns", ", ".join(found.columns)),
        _line("events", _events(found)),
        _line("reads", _reads(found.left, found.total)),
    ]
    made = view.source.transform
    if made is not None:
        lines.append(_line("made by", f"{made.import_path}, which is given every column"))
    latest = [name for name in view.latest if name in read.features]
    if latest:
        lines.append(_line("latest", f"{', '.join(latest)}, {_kept(view)}"))
    lines += [_line(span, ", ".join(told)) for span, told in _windows(read.features, view).items()]
    return lines


def _line(what: str, told: str) -> str:
    return f"  {what:<{_INDENT}}{told}" if len(what) < _INDENT else f"  {what}  {told}"


def _kept(view: FeatureView) -> str:
    return "for ever" if view.ttl is None else f"for {view.ttl}"


def _windows(features: Sequence[str], view: FeatureView) -> dict[str, list[str]]:
    """Aggregates by window, in the view's order."""
    grouped: dict[str, list[str]] = {}
    for window in view.windows:
        if window.name in features:
            where = f" where {window.where}" if window.where else ""
            grouped.setdefault(_window(window), []).append(f"{window.function} of {window.column}{where}")
    return grouped


def _window(window: WindowColumn) -> str:
    before = f", {window.offset} before" if window.offset else ""
    edges = "" if window.boundary == "(]" else ", [)"
    hop = f", hop {window.hop}" if window.hop is not None else ""
    return f"{window.over}{before}{edges}{hop}"


def _events(found: ViewEstimate) -> str:
    first, last = found.between
    if found.read.view.source.event_id is not None:
        return "of all times, because a correction may move an event from any other"
    if first is None and last is None:
        return "of all times, because those of the rows are not known yet"
    until = "" if last is None else f" until {_time(last)}"
    return f"from {_time(first)}{until}" if first is not None else f"of all times{until}"


def _reads(left: Extent, total: Extent) -> str:
    return (
        f"{left.files:,} of {total.files:,} {'file' if total.files == 1 else 'files'}, "
        f"{left.rows:,} of {total.rows:,} events, {size_text(left.bytes)} of {size_text(total.bytes)}"
    )


def _shared(one: SourceEstimate) -> str:
    return f"{one.name} is read once for {', '.join(one.views)}: {_reads(one.left, one.total)}"


def _rows(rows: RowsEstimate) -> str:
    if not rows.exact and not rows.rows:
        return "no rows yet"
    about = "" if rows.exact else "at most "
    span = "" if rows.span is None else f", {_time(rows.span[0])} to {_time(rows.span[1])}"
    return f"{about}{rows.rows:,} {'row' if rows.rows == 1 else 'rows'}{span}, {size_text(rows.bytes)}"


def _time(us: int) -> str:
    try:
        return format_time(us)
    except UsageError:  # a window's halo may reach beyond the years that text can say
        return f"{us} us"


def _view_data(found: ViewEstimate) -> Mapping[str, Any]:
    read, view = found.read, found.read.view
    return {
        "view": view.name,
        "source": view.source.name,
        "clock": read.clock,
        "keys": [column for _, column in read.keys],
        "features": list(read.features),
        "columns": list(found.columns),
        "latest": [name for name in view.latest if name in read.features],
        "ttl": None if view.ttl is None else str(view.ttl),
        "windows": _windows(read.features, view),
        **_extents(found.between, found.left, found.total),
    }


def _source_data(one: SourceEstimate) -> dict[str, Any]:
    return {
        "source": one.name,
        "columns": list(one.columns),
        **_extents(one.between, one.left, one.total),
    }


def _extents(between: Span, left: Extent, total: Extent) -> dict[str, Any]:
    return {"from_us": between[0], "to_us": between[1], "reads": asdict(left), "of": asdict(total)}
