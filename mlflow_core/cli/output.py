"""How results are printed: text for people (80 columns in a pipe, no colours there), or one JSON document."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any, TextIO

import orjson

__all__ = ["Output", "table"]

_PIPE_WIDTH = 80


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
            self.stream.write(text.rstrip("\n") + "\n")

    def table(self, data: Any, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print rows as a table, or the data as JSON."""
        self.result(data, "" if self.json else table(columns, rows, width=self.width))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, width: int) -> str:
    """Lay rows out as a table.

    Args:
        columns: The headings.
        rows: The cells; None is shown as nothing.
        width: Columns a line may have; longer cells are folded.

    Returns:
        The table, without colours and without spaces at line ends.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    laid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        laid.add_column(column, overflow="fold")
    for row in rows:
        laid.add_row(*("" if cell is None else str(cell) for cell in row))
    page = StringIO()
    Console(file=page, width=width, no_color=True, highlight=False, markup=False).print(laid)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())
