"""Sizes as people write them: ``"2GiB"``, ``"500MB"``; a whole number of bytes inside. The text is kept for messages."""

from __future__ import annotations

from typing import Any, Self

from pydantic_core import CoreSchema, core_schema

from mlflow_core.config.sizes import parse_size

__all__ = ["Size"]


class Size(int):
    """A number of bytes that remembers how it was written.

    Args:
        value: Text such as ``"2GiB"`` (units B, kB, MB, GB, TB, KiB, MiB, GiB, TiB).

    Raises:
        UsageError: The text is no size; it is a ``ValueError``, too.

    Example:
        >>> Size("2GiB") == Size("2048 MiB"), str(Size("2GiB")), int(Size("1kB"))
        (True, '2GiB', 1000)
    """

    text: str

    def __new__(cls, value: str | Size) -> Self:
        """Read a size as it is written."""
        text = value.text if isinstance(value, Size) else value.strip()
        made = super().__new__(cls, parse_size(text))
        made.text = text
        return made

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Size({self.text!r})"

    def __reduce__(self) -> tuple[type[Size], tuple[str]]:
        return (Size, (self.text,))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        """Let pydantic read it from text and write it as text."""
        return core_schema.no_info_plain_validator_function(
            cls._validated, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def _validated(cls, value: object) -> Size:
        if not isinstance(value, str | Size):
            raise ValueError(f'is not a size; write it with its unit, as "{value}B" or "{value}GiB"')
        return cls(value)
