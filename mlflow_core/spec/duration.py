"""Lengths of time as people write them: ``"3h"``, ``"14d"``, ``"1h30m"``; a whole number of microseconds inside.

The text is kept, because default column names are made of it: a window of ``"24h"`` names its column
``..._24h`` and one of ``"1d"`` names it ``..._1d``, though both last equally long and compare equal.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Self

from pydantic_core import CoreSchema, core_schema

from mlflow_core.config.times import format_duration, parse_duration

__all__ = ["Duration", "Length"]


class Duration(int):
    """A length of time in whole microseconds that remembers how it was written.

    Args:
        value: Text such as ``"90m"`` or ``"1h30m"`` (units us, ms, s, m, h, d, w), or a ``timedelta``.

    Raises:
        ValueError: The text has no unit, an unknown unit, or is not a duration at all.

    Example:
        >>> Duration("1h30m") == Duration("90m"), str(Duration("90m")), int(Duration("2s"))
        (True, '90m', 2000000)
    """

    text: str

    def __new__(cls, value: str | timedelta | Duration) -> Self:
        """Read a length of time as it is written."""
        if isinstance(value, Duration):
            text = value.text
        elif isinstance(value, timedelta):
            text = _written(value // timedelta(microseconds=1))
        else:
            text = value.strip().replace(" ", "")
        made = super().__new__(cls, _microseconds(text))
        made.text = text
        return made

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Duration({self.text!r})"

    def __reduce__(self) -> tuple[type[Duration], tuple[str]]:
        return (Duration, (self.text,))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        """Let pydantic read it from text or ``timedelta`` and write it as text."""
        return core_schema.no_info_plain_validator_function(
            cls._validated, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def _validated(cls, value: object) -> Duration:
        if not isinstance(value, str | timedelta | Duration):
            raise ValueError(
                f'is not a length of time; write it with its unit, as "{value}s", "{value}m" or "{value}h"'
            )
        return cls(value)


def _microseconds(text: str) -> int:
    if re.fullmatch(r"-?\d+", text):
        raise ValueError(
            f'"{text}" has no unit, so its length is ambiguous; write "{text}s", "{text}m", "{text}h" or "{text}d"'
        )
    length = parse_duration(text.removeprefix("-"))
    return -length if text.startswith("-") else length


def _written(microseconds: int) -> str:
    return f"{'-' if microseconds < 0 else ''}{format_duration(abs(microseconds))}"


Length = str | timedelta | Duration
"""How a length of time may be given."""
