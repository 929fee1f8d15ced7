"""Protobuf's wire format, as far as Feast's values need it: numbers of varying length, and the fields of a message.

Source: https://protobuf.dev/programming-guides/encoding/. What a field means is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["EIGHT", "FOUR", "SIZED", "VARINT", "fields", "numbers_of", "signed", "tag", "varint", "varints"]

VARINT, EIGHT, SIZED, FOUR = 0, 1, 2, 5
"""How a payload is written: as a varint, in eight bytes, behind its size, in four bytes."""

_LONGEST = 10  # bytes of a varint
_MANY = 48  # from how many bytes on numpy is faster


def tag(number: int, written: int) -> int:
    """Return what a field begins with: its number and how its payload is written."""
    return number << 3 | written


def signed(number: int) -> int:
    """Return an unsigned 64-bit number as the signed one of the same bits."""
    return number - (1 << 64) if number >> 63 else number


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Read an unsigned number of varying length.

    Args:
        data: The bytes.
        at: Where it begins.

    Returns:
        The number, of 64 bits, and where it ends.

    Raises:
        ValueError: It has no end.
    """
    value = shift = 0
    for byte in data[at : at + _LONGEST]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise ValueError("its bytes are cut off")


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Go through the fields of a message.

    Args:
        data: The message.

    Returns:
        Each field's tag, and its payload: an unsigned int of a varint, else its bytes.

    Raises:
        ValueError: The bytes are damaged.
    """
    at = 0
    while at < len(data):
        found, at = varint(data, at)
        written = found & 7
        if written == VARINT:
            number, at = varint(data, at)
            yield found, number
            continue
        if written == SIZED:
            size, at = varint(data, at)
        elif written in (EIGHT, FOUR):
            size = 8 if written == EIGHT else 4
        else:
            raise ValueError("its bytes are no message")
        if at + size > len(data):
            raise ValueError("its bytes are cut off")
        yield found, data[at : at + size]
        at += size


def varints(data: bytes) -> list[int]:
    """Read numbers of varying length that stand one after the other, signed.

    Raises:
        ValueError: The last one has no end.
    """
    if len(data) >= _MANY:
        numbers, _ = numbers_of(data)
        found: list[int] = numbers.tolist()
        return found
    values, at = [], 0
    while at < len(data):
        value, at = varint(data, at)
        values.append(signed(value))
    return values


def numbers_of(data: bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
    """Read numbers of varying length that stand one after the other, all in numpy.

    Args:
        data: Their bytes, at least one.

    Returns:
        The numbers, signed, and where each ends, both of shape (n,).

    Raises:
        ValueError: One of them has no end.
    """
    octets = np.frombuffer(data, np.uint8)
    if octets[-1] >= 0x80:
        raise ValueError("its bytes are cut off")
    ends = np.flatnonzero(octets < 0x80) + 1
    starts = np.empty_like(ends)
    starts[0], starts[1:] = 0, ends[:-1]
    sizes = ends - starts
    if sizes.max() > _LONGEST:
        raise ValueError("its bytes are no number")
    places = np.arange(len(octets)) - np.repeat(starts, sizes)
    parts = (octets & 0x7F).astype(np.uint64) << (7 * places).astype(np.uint64)
    return np.bitwise_or.reduceat(parts, starts).view(np.int64), ends
