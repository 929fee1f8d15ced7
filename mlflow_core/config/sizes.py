"""Sizes as text and as bytes: ``20 GiB``, ``500MB``. Nothing is measured here."""

from __future__ import annotations

import re
from typing import Final

from mlflow_core.errors import UsageError

__all__ = ["format_size", "parse_size"]

_UNITS: Final = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
    "TIB": 1 << 40,
}
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kKMGT]?i?B)\s*")


def parse_size(text: str) -> int:
    """Read a size.

    Args:
        text: A number and a unit; ``kB``, ``MB``, ``GB`` and ``TB`` are powers of 1000, ``KiB``, ``MiB``, ``GiB``
            and ``TiB`` of 1024.

    Returns:
        Bytes.

    Raises:
        UsageError: The text is no size.

    Example:
        >>> parse_size("1.5 GiB"), parse_size("20MB")
        (1610612736, 20000000)
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise UsageError(f'"{text}" is no size', expected="a number and a unit, e.g. 20 GiB or 500MB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def format_size(size: int) -> str:
    """Write a size for people, in powers of 1024.

    Args:
        size: Bytes.

    Example:
        >>> format_size(1610612736), format_size(12)
        ('1.5 GiB', '12 B')
    """
    amount, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
