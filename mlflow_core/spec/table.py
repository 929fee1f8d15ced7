"""A feature view as a table of its features: what each is, over which window, and its type where that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Protocol

from mlflow_core.spec.aggregate import WindowColumn
from mlflow_core.spec.duration import Duration

__all__ = ["TableOfFeatures", "view_html", "view_rows", "view_text"]


class TableOfFeatures(Protocol):
    """What of a feature view is shown; ``mlflow_core.spec.FeatureView`` has it."""

    @property
    def entity(self) -> Any:
        """What it describes, or None."""
        ...

    @property
    def source(self) -> Any:
        """Where its events come from."""
        ...

    @property
    def columns(self) -> dict[str, str]:
        """Its SQL expressions by name."""
        ...

    @property
    def ttl(self) -> Duration | None:
        """How old a latest value may be."""
        ...

    @property
    def availability(self) -> Any:
        """When its values can be used, or None."""
        ...

    @property
    def title(self) -> str:
        """How messages call the view."""
        ...

    @property
    def keys(self) -> tuple[str, ...]:
        """Its key columns."""
        ...

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Its features in output order."""
        ...

    @property
    def windows(self) -> tuple[WindowColumn, ...]:
        """Those that are window aggregates."""
        ...


_HEAD = ("feature", "type", "is", "window")


def view_rows(
    view: TableOfFeatures, types: Mapping[str, str] | None = None
) -> list[tuple[str, str, str, str]]:
    """Return one row for each feature: name, type, what it is, window.

    Args:
        view: The feature view.
        types: Feature -> type, for those that are known; a declaration alone knows none.
    """
    windows = {window.name: window for window in view.windows}
    rows = []
    for name in view.feature_names:
        kind = (types or {}).get(name, "")
        window = windows.get(name)
        if window is None:
            source = f" = {view.columns[name]}" if name in view.columns else ""
            ttl = f"up to {view.ttl} old" if view.ttl is not None else ""
            rows.append((name, kind, f"latest value{source}", ttl))
            continue
        what = "count of events" if window.column == "*" else f"{window.function} of {window.column}"
        if window.where:
            what += f" where {window.where}"
        span = f"{window.over}{f', {window.offset} before' if window.offset else ''}"
        rows.append((name, kind, what, f"{span}{f', hop {window.hop}' if window.hop else ''}"))
    return rows


def view_text(view: TableOfFeatures, types: Mapping[str, str] | None = None) -> str:
    """Return the table as text with a headline; the type column only where a type is known."""
    head, rows = _table(view, types)
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]
    return "\n".join([_headline(view), *(f"  {line}" for line in lines)])


def view_html(view: TableOfFeatures, types: Mapping[str, str] | None = None) -> str:
    """Return the table as HTML for a notebook; the type column only where a type is known."""
    head, rows = _table(view, types)
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    caption = f"<caption>{escape(_headline(view))}</caption>"
    return f"<table>{caption}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _table(
    view: TableOfFeatures, types: Mapping[str, str] | None
) -> tuple[Sequence[str], list[Sequence[str]]]:
    rows: list[Sequence[str]] = list(view_rows(view, types))
    if types:
        return _HEAD, rows
    return [_HEAD[0], *_HEAD[2:]], [[row[0], *row[2:]] for row in rows]


def _headline(view: TableOfFeatures) -> str:
    about = f" of {view.entity.name} ({', '.join(view.keys)})" if view.entity else ""
    every = f", every {view.availability.every} after {view.availability.delay}" if view.availability else ""
    return f"{view.title}{about} from {view.source.name}{every}"
