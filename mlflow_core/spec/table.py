"""A feature view as a table of its features: what each is, over which window, and its type where that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_core.spec.view import FeatureView

__all__ = ["view_html", "view_rows", "view_text"]

_HEAD = ("feature", "type", "is", "window")


def view_rows(view: FeatureView, types: Mapping[str, str] | None = None) -> list[tuple[str, str, str, str]]:
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


def view_text(view: FeatureView, types: Mapping[str, str] | None = None) -> str:
    """Return the table as text with a headline; the type column only where a type is known."""
    head, rows = _table(view, types)
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]
    return "\n".join([_headline(view), *(f"  {line}" for line in lines)])


def view_html(view: FeatureView, types: Mapping[str, str] | None = None) -> str:
    """Return the table as HTML for a notebook; the type column only where a type is known."""
    head, rows = _table(view, types)
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    caption = f"<caption>{escape(_headline(view))}</caption>"
    return f"<table>{caption}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _table(view: FeatureView, types: Mapping[str, str] | None) -> tuple[Sequence[str], list[Sequence[str]]]:
    rows: list[Sequence[str]] = list(view_rows(view, types))
    if types:
        return _HEAD, rows
    return [_HEAD[0], *_HEAD[2:]], [[row[0], *row[2:]] for row in rows]


def _headline(view: FeatureView) -> str:
    about = f" of {view.entity.name} ({', '.join(view.keys)})" if view.entity else ""
    every = f", every {view.availability.every} after {view.availability.delay}" if view.availability else ""
    return f"{view.title}{about} from {view.source.name}{every}"
