"""What every stored value begins with: its version, and what the bytes behind it are.

::

    version   16 bytes  time, then sequence: int64 with the sign bit flipped, big-endian, so that bytes compare
                        as versions do
    layout    1 byte    of the bytes behind the version
    kind      1 byte    row, tile, chunk or tombstone
    schema    8 bytes   start of the SHA-256 of names, types and definition; a tombstone has none

Backends decide by these bytes alone which of two values stays; what follows is the codec's.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from mlflow_core.errors import StoreError

__all__ = [
    "KIND_AT",
    "LAYOUT",
    "LAYOUT_AT",
    "SCHEMA_AT",
    "SIGN",
    "VERSION_BYTES",
    "Kind",
    "is_tombstone",
    "tombstone",
    "version_bytes",
    "version_of",
]

LAYOUT = 2
VERSION_BYTES = 16
LAYOUT_AT = 16
KIND_AT = 17
SCHEMA_AT = slice(18, 26)
SIGN = 2**63
_VERSION = struct.Struct(">QQ")


class Kind(IntEnum):
    """What a stored value is."""

    ROW = 1
    TILE = 2
    CHUNK = 3
    TOMBSTONE = 4


def version_bytes(time: int, sequence: int) -> bytes:
    """Return a version as a value begins with it.

    Args:
        time: Boundary or event time, int64 microseconds since epoch, UTC.
        sequence: Orders versions of one time: created time in microseconds, or 0; int64.

    Raises:
        StoreError: One of them is no int64.

    Example:
        >>> version_bytes(-1, 9) < version_bytes(0, 0) < version_bytes(0, 1)
        True
    """
    try:
        return _VERSION.pack(time + SIGN, sequence + SIGN)
    except struct.error as error:
        raise StoreError(f"a version is no pair of int64: ({time}, {sequence})") from error


def version_of(data: bytes) -> tuple[int, int]:
    """Return a stored value's version: (time, sequence)."""
    time, sequence = _VERSION.unpack_from(data)
    return time - SIGN, sequence - SIGN


def tombstone(time: int, sequence: int) -> bytes:
    """Return the value that marks an erased key as of a version; see ``version_bytes``."""
    return version_bytes(time, sequence) + bytes([LAYOUT, Kind.TOMBSTONE])


def is_tombstone(data: bytes) -> bool:
    """Say whether a stored value marks an erased key, whichever layout wrote it."""
    return len(data) > KIND_AT and data[KIND_AT] == Kind.TOMBSTONE
