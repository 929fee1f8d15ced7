"""What a step prints and logs: told line by line, the last of it kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

__all__ = ["Log"]

_KEPT: Final = 1 << 18
_LINE: Final = 1 << 14


class Log:
    r"""Lines as they come.

    Args:
        told: Gets each line, without its end.

    Example:
        >>> log = Log(print)
        >>> log.add("one\ntw")
        one
        >>> log.add("o")
        >>> log.close()
        two
        'one\ntwo'
    """

    def __init__(self, told: Callable[[str], None]) -> None:
        self._told = told
        self._half = ""
        self._lines: deque[str] = deque()
        self._size = 0
        self._gone = 0

    def add(self, text: str) -> None:
        """Take what was said, in whatever pieces it comes."""
        *lines, self._half = (self._half + text).split("\n")
        for line in lines:
            self._keep(line)
        while len(self._half) > _LINE:
            self._keep(self._half[:_LINE])
            self._half = self._half[_LINE:]

    def close(self) -> str:
        """Return what is kept; where it was much, a first line says how many lines are missing."""
        if self._half:
            self._keep(self._half)
            self._half = ""
        missing = [f"... {self._gone} earlier lines are not kept"] if self._gone else []
        return "\n".join([*missing, *self._lines])

    def _keep(self, line: str) -> None:
        line = line.removesuffix("\r")
        self._told(line)
        self._lines.append(line)
        self._size += len(line) + 1
        while self._size > _KEPT and len(self._lines) > 1:
            self._size -= len(self._lines.popleft()) + 1
            self._gone += 1
