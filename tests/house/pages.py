"""What a page of the documents shows: its fenced blocks, the files among them, and the commands to type."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r'^```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\s*$')


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: The word behind the fence, e.g. ``python``; empty where there is none.
        title: The file that it is to be saved as; None for a block that is none.
        line: Where its first line stands on the page, counted from 1.
        text: Its lines.
    """

    language: str
    title: str | None
    line: int
    text: str


@dataclass(frozen=True)
class Command:
    """One line to type, and the lines that the page shows as its answer."""

    text: str
    shown: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        """The words as a shell splits them."""
        return shlex.split(self.text, comments=True)


def blocks_of(page: str) -> Iterator[Block]:
    """Yield a page's fenced blocks in order."""
    fence, start, lines = None, 0, []
    for number, line in enumerate(page.splitlines(), 1):
        if fence is None:
            fence, start, lines = _FENCE.match(line), number + 1, []
        elif line.rstrip() == "```":
            yield Block(fence["language"], fence["title"], start, "".join(f"{one}\n" for one in lines))
            fence = None
        else:
            lines.append(line)


def commands_of(block: Block) -> Iterator[Command]:
    """Yield what a console block tells a reader to type, lines that end in a backslash or a quote joined."""
    typed: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            typed.append((line[2:], []))
        elif typed and typed[-1][0].endswith("\\"):
            typed[-1] = (typed[-1][0][:-1].rstrip() + " " + line.strip(), [])
        elif typed and typed[-1][0].count("'") % 2:
            typed[-1] = (f"{typed[-1][0]}\n{line}", [])
        elif typed:
            typed[-1][1].append(line)
    yield from (Command(text, tuple(shown)) for text, shown in typed)


def console_commands(page: str) -> list[Command]:
    """Return every command of a page's console blocks, in order."""
    return [
        command for block in blocks_of(page) if block.language == "console" for command in commands_of(block)
    ]
