"""How results are printed: text for people (80 columns in a pipe, no colours there), or one JSON document."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from io import StringIO
from textwrap import wrap
from typing import Any, TextIO

import orjson

__all__ = ["Output", "folded", "table"]

_PIPE_WIDTH = 80
_GAP = 3
_STEP = 2
_LABEL = re.compile(r" *\S+ {2,}")


class Output:
    """Where one command prints its result.

    Args:
        json: Print JSON.
        stream: Where to; standard output if None.
    """

    def __init__(self, *, json: bool = False, stream: TextIO | None = None) -> None:
        self.json = json
        self.stream = stream if stream is not None else sys.stdout

    @property
    def width(self) -> int:
        """How many columns a line may have."""
        return shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns if self.stream.isatty() else _PIPE_WIDTH

    def result(self, data: Any, text: str) -> None:
        """Print the data as JSON, or the text; which one, the call's options say."""
        if self.json:
            self.stream.write(orjson.dumps(data, default=str, option=orjson.OPT_INDENT_2).decode() + "\n")
        else:
            self.stream.write(folded(text.rstrip("\n"), self.width) + "\n")

    def table(self, data: Any, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print rows as a table, or the data as JSON."""
        self.result(data, "" if self.json else table(columns, rows, width=self.width))


def folded(text: str, width: int) -> str:
    """Fold lines between words where they are too long; words stay whole, and so does a command to type.

    Args:
        text: Lines; one that begins with ``$`` is a command.
        width: Columns a line may have.

    Returns:
        The text. What follows a label, two spaces or more behind a line's first word, stays beside it.

    Example:
        >>> print(folded("with     numpy 2.4.6, pandas 2.3.3", 24))
        with     numpy 2.4.6,
                 pandas 2.3.3
    """
    return "\n".join(one for line in text.split("\n") for one in _folded(line, width))


def _folded(line: str, width: int) -> list[str]:
    if len(line) <= width or line.startswith("$ "):
        return [line]
    label = _LABEL.match(line)
    begin = label.end() if label is not None and label.end() <= width // 2 else _leading(line) + _STEP
    return wrap(
        line,
        width,
        subsequent_indent=" " * begin,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )


def _leading(line: str) -> int:
    return len(line) - len(line.lstrip())


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, width: int) -> str:
    """Lay rows out as a table.

    Args:
        columns: The headings.
        rows: The cells; None is shown as nothing.
        width: Columns a line may have; longer cells are folded, between words as long as that is enough.

    Returns:
        The table, without colours and without spaces at line ends.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    laid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column, its_width in zip(columns, _widths([columns, *cells], width), strict=True):
        laid.add_column(column, overflow="fold", width=its_width)
    for row_cells in cells:
        laid.add_row(*row_cells)
    page = StringIO()
    Console(file=page, width=width, no_color=True, highlight=False, markup=False).print(laid)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def _widths(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Share a line among columns: what is too wide is folded between words first, within words last."""
    from rich.cells import cell_len

    by_column = list(zip(*rows, strict=True))
    widths = [max(cell_len(line) for cell in cells for line in cell.split("\n")) for cells in by_column]
    words = [
        max((cell_len(word) for cell in cells for word in cell.split()), default=1) for cells in by_column
    ]
    excess = sum(widths) + _GAP * (len(widths) - 1) - width
    for floors in (words, [1] * len(widths)):
        while excess > 0 and any(have > least for have, least in zip(widths, floors, strict=True)):
            widest = max((have, n) for n, have in enumerate(widths) if have > floors[n])[1]
            widths[widest] -= 1
            excess -= 1
    return widths
