"""Reads UBJ, the binary JSON in which XGBoost keeps boosters, before XGBoost itself does.

Only what XGBoost writes is read; arrays of numbers become numpy arrays without a copy. See https://ubjson.org.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np

__all__ = ["read_ubj"]

_NUMBERS: Final = {"U": ">u1", "i": ">i1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
_ONE: Final = {
    name: struct.Struct(">" + code) for name, code in zip("UiIlLdD", "BbhiqfD".replace("D", "d"), strict=True)
}
_SIZES: Final = "UiIlL"
_DEEPEST: Final = 32


def read_ubj(data: bytes) -> Any:
    r"""Read one value.

    Args:
        data: All of its bytes.

    Returns:
        What it holds: dicts, lists, numpy arrays of numbers, strings, numbers, booleans, None.

    Raises:
        ValueError: It is not what XGBoost writes: cut off, with something behind it, or with a name twice.

    Example:
        >>> read_ubj(b"{L" + (1).to_bytes(8) + b"aU\x07}")
        {'a': 7}
    """
    reader = _Reader(data)
    try:
        value = reader.value(reader.marker(), 0)
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"at byte {reader.at:,}: {error}") from None
    if reader.at != len(data):
        raise ValueError(f"{len(data) - reader.at:,} bytes are behind its end")
    return value


class _Reader:
    """Where the reading is."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def marker(self) -> str:
        if self.at >= len(self.data):
            raise ValueError("it is cut off")
        self.at += 1
        return chr(self.data[self.at - 1])

    def value(self, marker: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError(f"it is more than {_DEEPEST} deep")
        if marker in _ONE:
            return self._number(marker)
        match marker:
            case "S":
                return self._text()
            case "{":
                return self._object(depth)
            case "[":
                return self._array(depth)
            case "T" | "F" | "Z":
                return {"T": True, "F": False, "Z": None}[marker]
        raise ValueError(f"at byte {self.at:,} stands {marker!r}")

    def _number(self, marker: str) -> int | float:
        found: int | float = _ONE[marker].unpack_from(self.data, self.at)[0]
        self.at += _ONE[marker].size
        return found

    def _size(self) -> int:
        marker = self.marker()
        size = self._number(marker) if marker in _SIZES else -1
        if not 0 <= size <= len(self.data):
            raise ValueError(f"at byte {self.at:,} stands no size")
        return int(size)

    def _text(self) -> str:
        size = self._size()
        self.at += size
        if self.at > len(self.data):
            raise ValueError("it is cut off")
        return self.data[self.at - size : self.at].decode()

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self.data[self.at : self.at + 1] != b"}":
            name = self._text()
            if name in found:
                raise ValueError(f'"{name}" stands there twice')
            found[name] = self.value(self.marker(), depth + 1)
        self.at += 1
        return found

    def _array(self, depth: int) -> Any:
        kind = None
        if self.data[self.at : self.at + 1] == b"$":
            self.at += 1
            kind = self.marker()
        if self.data[self.at : self.at + 1] != b"#":
            if kind is not None:
                raise ValueError(f"at byte {self.at:,} stands no size")
            return self._open_array(depth)
        self.at += 1
        size = self._size()
        if kind is None:
            return [self.value(self.marker(), depth + 1) for _ in range(size)]
        if kind not in _NUMBERS:
            raise ValueError(f"an array of {kind!r}")
        found = np.frombuffer(self.data, _NUMBERS[kind], size, self.at)
        self.at += found.nbytes
        return found

    def _open_array(self, depth: int) -> list[Any]:
        found = []
        while (marker := self.marker()) != "]":
            found.append(self.value(marker, depth + 1))
        return found
