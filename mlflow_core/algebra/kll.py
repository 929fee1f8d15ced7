"""Quantile sketches in Apache DataSketches' own bytes, with a coin that falls the same way each time.

A KLL sketch halves a sorted buffer by keeping every second value, and tosses a coin for which ones. The library's
Python binding seeds that coin from the time of day and takes no seed, so two runs of one recipe would differ. The
halving is therefore done here, with a coin made of the values themselves; the bytes are the library's, and the
library reads them and answers. What a quantile of a window means is ``mlflow_core.algebra.sketches``.

Sources: Z. Karnin, K. Lang, E. Liberty, "Optimal quantile approximation in streams" (2016); the format and the
buffer sizes of datasketches-cpp, ``kll_sketch`` (serial version 1).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["RANK_ERROR", "K", "Kll", "kll_bytes", "kll_from_bytes", "kll_joined", "kll_of", "kll_quantile"]

Floats: TypeAlias = NDArray[np.float64]

K = 200
"""The size of the largest buffer; up to this many values nothing is thrown away."""
RANK_ERROR = 0.0133
"""How far the rank of an answer may be from the one asked for, in 99 of 100 sketches, as a share of the values."""
_LEAST = 8
_HEAD = struct.Struct("<BBBBHBB")
_BODY = struct.Struct("<QHBB")
_FULL, _SHORT, _FAMILY, _EMPTY, _SINGLE = 5, 2, 15, 1, 4


@dataclass(frozen=True, slots=True, eq=False)
class Kll:
    """What is kept of a set of numbers.

    Attributes:
        n: How many numbers there were.
        low: The least of them; NaN where there are none.
        high: The greatest.
        levels: Each number of level h stands for ``2 ** h`` numbers; float64, sorted above level 0.
    """

    n: int
    low: float
    high: float
    levels: tuple[Floats, ...]


def kll_of(values: Floats | Sequence[float], salt: int = 0) -> Kll:
    """Sketch numbers.

    Args:
        values: Numbers and infinities, no NaN, float64 (n,).
        salt: Makes the coin of sketches of equal values independent, e.g. a position or a time.
    """
    numbers = np.asarray(values, np.float64)
    if not len(numbers):
        return Kll(0, np.nan, np.nan, (numbers,))
    whole = Kll(len(numbers), float(numbers.min()), float(numbers.max()), (numbers,))
    return _compressed(whole, salt)


def kll_joined(sketches: Sequence[Kll], salt: int = 0) -> Kll:
    """Return the sketch of the union of disjoint sets."""
    some = [sketch for sketch in sketches if sketch.n]
    if not some:
        return kll_of(())
    height = max(len(sketch.levels) for sketch in some)
    levels = tuple(
        _merged([sketch.levels[h] for sketch in some if h < len(sketch.levels)], ordered=h > 0)
        for h in range(height)
    )
    low, high = min(sketch.low for sketch in some), max(sketch.high for sketch in some)
    return _compressed(Kll(sum(sketch.n for sketch in some), low, high, levels), salt)


def kll_quantile(sketch: Kll, q: float) -> float | None:
    """Return the value at rank ``ceil(q * n)``, one of those that were seen; None where there were none."""
    if not sketch.n:
        return None
    from datasketches import kll_doubles_sketch

    return float(kll_doubles_sketch.deserialize(kll_bytes(sketch)).get_quantile(q, True))


def kll_bytes(sketch: Kll) -> bytes:
    """Return a sketch as DataSketches writes it."""
    if sketch.n <= 1:
        flags = _SINGLE if sketch.n else _EMPTY
        head = _HEAD.pack(_SHORT, 1 + (sketch.n == 1), _FAMILY, flags, K, _LEAST, 0)
        return head + sketch.levels[0].tobytes()
    ends = _room(len(sketch.levels)) - sum(len(level) for level in sketch.levels)
    starts = []
    for level in sketch.levels:
        starts.append(ends)
        ends += len(level)
    return b"".join(
        (
            _HEAD.pack(_FULL, 1, _FAMILY, 0, K, _LEAST, 0),
            _BODY.pack(sketch.n, K, len(sketch.levels), 0),
            np.array(starts, "<u4").tobytes(),
            np.array([sketch.low, sketch.high], "<f8").tobytes(),
            *(level.astype("<f8").tobytes() for level in sketch.levels),
        )
    )


def kll_from_bytes(data: bytes) -> Kll:
    """Read a sketch back.

    Raises:
        ValueError: These are no bytes of a KLL sketch of this size.
    """
    form, _, family, flags, k, _, _ = _HEAD.unpack_from(data)
    if family != _FAMILY or k != K or form not in (_FULL, _SHORT):
        raise ValueError(f"no KLL sketch with k = {K}: family {family}, k {k}")
    if flags & _EMPTY:
        return kll_of(())
    if form == _SHORT:
        return kll_of(np.frombuffer(data, "<f8", 1, _HEAD.size))
    n, _, height, _ = _BODY.unpack_from(data, _HEAD.size)
    at = _HEAD.size + _BODY.size
    starts = [*np.frombuffer(data, "<u4", height, at).tolist(), _room(height)]
    kept = np.frombuffer(data, "<f8", -1, at + 4 * height)
    levels = tuple(kept[2 + low - starts[0] : 2 + high - starts[0]] for low, high in pairwise(starts))
    return Kll(n, float(kept[0]), float(kept[1]), levels)


def _compressed(sketch: Kll, salt: int) -> Kll:
    """Halve the lowest buffer that is over its size until all fit."""
    levels = list(sketch.levels)
    while sum(len(level) for level in levels) > _room(len(levels)):
        h = next(h for h, level in enumerate(levels) if len(level) >= _size(len(levels), h))
        if h == len(levels) - 1:
            levels.append(np.zeros(0))
        level = np.sort(levels[h]) if h == 0 else levels[h]
        odd = len(level) % 2
        halved = level[odd + _coin(level, sketch.n, salt) :: 2]
        levels[h], levels[h + 1] = level[:odd], _merged([halved, levels[h + 1]], ordered=True)
    return Kll(sketch.n, sketch.low, sketch.high, tuple(levels))


def _coin(level: Any, n: int, salt: int) -> int:
    key = struct.pack("<Qq", n, salt & 0x7FFFFFFFFFFFFFFF)
    return hashlib.blake2b(level.tobytes(), digest_size=1, key=key).digest()[0] & 1


def _merged(levels: Sequence[Floats], *, ordered: bool) -> Floats:
    some = [level for level in levels if len(level)]
    if len(some) == 1:
        return some[0]
    both = np.concatenate(some) if some else np.zeros(0)
    return np.sort(both, kind="stable") if ordered else both


def _size(height: int, level: int) -> int:
    """How many values a level may hold, of a sketch with so many levels."""
    depth = height - level - 1
    return max(_LEAST, (((2 * K) << depth) // int(3**depth) + 1) >> 1)


def _room(height: int) -> int:
    return sum(_size(height, level) for level in range(height))
