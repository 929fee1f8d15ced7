"""The pieces of HTML that the report is put together from: tables, figures, figures' cells, one page.

Everything that comes from outside is escaped here. The page asks for nothing from the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

import numpy as np

from mlflow_core.train.evaluation.bootstrap import Interval

__all__ = [
    "Cell",
    "card",
    "figure",
    "interval_cell",
    "number",
    "page",
    "section",
    "signed",
    "table",
    "text_of",
    "verdict",
]


class Cell(str):
    """HTML that is already safe; any other text is escaped where it is used."""

    __slots__ = ()


def text_of(value: object) -> Cell:
    """A value as safe HTML."""
    if isinstance(value, Cell):
        return value
    if value is None:
        return Cell("<small>null</small>")
    if isinstance(value, bool | np.bool_):
        return Cell("yes" if value else "no")
    if isinstance(value, float | np.floating):
        return number(float(value))
    if isinstance(value, int | np.integer):
        return Cell(f"{value:,}")
    return Cell(escape(str(value)))


def number(value: float, digits: int = 4) -> Cell:
    """A number of a few significant digits; a dash where there is none."""
    if not np.isfinite(value):
        return Cell("&ndash;")
    return Cell(f"{value:,.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}")


def interval_cell(found: Interval, *, plus: bool = False) -> Cell:
    """A figure, and below it, smaller, its interval."""
    if not np.isfinite(found.value):
        return Cell("&ndash;")
    sign = "+" if plus else ""
    value, low, high = (
        round(one, 4) + 0.0 for one in (found.value, found.low, found.high)
    )  # + 0: there is no -0
    ends = f"{low:{sign}.4f} to {high:{sign}.4f}" if np.isfinite(low) else "no interval"
    return Cell(f"{value:{sign}.4f}<br><small>{ends}</small>")


def signed(found: Interval, better: str = "better", worse: str = "worse") -> Cell:
    """A pill that says on which side of 0 the whole interval lies."""
    if found.low > 0:
        return Cell(f'<span class="pill good">{escape(better)}</span>')
    if found.high < 0:
        return Cell(f'<span class="pill bad">{escape(worse)}</span>')
    return Cell('<span class="pill flat">no clear difference</span>')


def verdict(passed: bool, good: str = "passed", bad: str = "failed") -> Cell:
    """A pill for what holds or does not."""
    return Cell(f'<span class="pill {"good" if passed else "bad"}">{escape(good if passed else bad)}</span>')


def table(head: Sequence[object], rows: Sequence[Sequence[object]], *, numbers: Sequence[int] = ()) -> Cell:
    """A table.

    Args:
        head: Its column titles.
        rows: Its rows.
        numbers: Positions of the columns that are set to the right.
    """

    def cells(tag: str, row: Sequence[object]) -> str:
        return "".join(
            f"<{tag}{' class=n' if n in numbers else ''}>{text_of(value)}</{tag}>"
            for n, value in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return Cell(
        f'<div class="scroll"><table><thead><tr>{cells("th", head)}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def figure(svg: str, caption: str, title: str = "") -> Cell:
    """A plot with a title above and a sentence below it; the sentence stands alone where nothing was drawn."""
    head = f"<h3>{escape(title)}</h3>" if title else ""
    drawn = svg or '<p class="note">(not drawn)</p>'
    return Cell(f"<figure>{head}{drawn}<figcaption>{escape(caption)}</figcaption></figure>")


def card(name: str, value: object, below: object = "") -> Cell:
    """One large figure with its name."""
    return Cell(
        f'<div class="card"><span class="name">{text_of(name)}</span><b>{text_of(value)}</b><span>{text_of(below)}</span></div>'
    )


def section(title: str, note: str, *parts: str) -> Cell:
    """A titled part of the page; what is empty is left out."""
    return Cell(
        f'<section><h2>{escape(title)}</h2><p class="note">{escape(note)}</p>{"".join(parts)}</section>'
    )


def page(title: str, body: str) -> str:
    """The whole document, its style inside."""
    style = files("mlflow_core.train.report").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )
