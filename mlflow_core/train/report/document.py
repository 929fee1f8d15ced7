"""A document as a value, and its two forms: Markdown for a repository, HTML for a browser. Both say the same.

Everything that comes from outside is escaped here, in either form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mlflow_core.train.report.page import page, section, table

__all__ = ["Bullets", "Document", "Grid", "Part", "Section", "Text", "to_html", "to_markdown"]


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Args:
        text: Plain text.
    """

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list.

    Args:
        items: Plain text each.
    """

    items: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A table.

    Args:
        head: Column titles.
        rows: Cells as plain text.
        numbers: Positions of the columns that are set to the right.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...] = ()


Part = Text | Bullets | Grid


@dataclass(frozen=True)
class Section:
    """A titled part.

    Args:
        title: Its heading.
        parts: What it says.
    """

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Document:
    """A whole document.

    Args:
        title: Its heading.
        lede: One sentence below it.
        sections: Its parts; those that say nothing are left out.
    """

    title: str
    lede: str
    sections: tuple[Section, ...]


def to_markdown(document: Document) -> str:
    """The document as Markdown with tables (GitHub's dialect)."""
    lines = [f"# {_plain(document.title)}", "", _plain(document.lede), ""]
    for one in document.sections:
        if one.parts:
            lines += [f"## {_plain(one.title)}", ""]
            for part in one.parts:
                lines += [*_markdown(part), ""]
    return "\n".join(lines)


def to_html(document: Document) -> str:
    """The document as one HTML page that needs nothing else."""
    body = f'<h1>{escape(document.title)}</h1><p class="lede">{escape(document.lede)}</p>'
    body += "".join(
        section(one.title, "", *(_html(part) for part in one.parts)) for one in document.sections if one.parts
    )
    return page(document.title, body)


def _markdown(part: Part) -> Sequence[str]:
    match part:
        case Text(text):
            return [_plain(text)]
        case Bullets(items):
            return [f"- {_plain(item)}" for item in items]
        case Grid(head, rows, numbers):
            rule = ["---:" if n in numbers else "---" for n in range(len(head))]
            lines = [[_plain(cell) for cell in row] for row in (head, *rows)]
            return [f"| {' | '.join(row)} |" for row in (lines[0], rule, *lines[1:])]


def _html(part: Part) -> str:
    match part:
        case Text(text):
            return f"<p>{escape(text)}</p>"
        case Bullets(items):
            return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
        case Grid(head, rows, numbers):
            return table(head, rows, numbers=numbers)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line; between letters an underscore means nothing and stays."""
    one_line = " ".join(text.split())
    escaped = re.sub(r"([\\`*\[\]<>|#])", r"\\\1", one_line)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", escaped)
