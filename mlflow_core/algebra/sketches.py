"""The approximate aggregates: sketches of Apache DataSketches, mergeable, of bounded size, with a stated error.

- ``approx_quantile(q)``: KLL with k = 200. The answer is one of the window's values; its rank is within 1.33 % of
  the one asked for in 99 of 100 windows. Exact (nearest rank) up to 200 values.
- ``approx_count_distinct``: HLL with 4096 registers. Within 4.2 % in 99 of 100 windows; exact up to 256 values.
- ``top_k(k)``: frequent items with 1024 counters. Most frequent first, equal counts in the values' order. Exact up
  to 768 distinct values. Beyond, a value listed above another occurs at most 0.35 % of the window's events less
  often, and so does the last listed than any that is missing; the list is shorter than k where the sketch kept
  fewer values.

The same values in the same order, cut in the same places, give the same bits. What is kept is bytes that any
DataSketches library reads. Which events are in a window is not decided here, nor are nulls skipped here.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import numpy as np

from mlflow_core.algebra.kll import RANK_ERROR, K, kll_bytes, kll_from_bytes, kll_joined, kll_of, kll_quantile
from mlflow_core.errors import EngineError
from mlflow_core.spec import Function

__all__ = ["SKETCHED", "Sketched", "sketched", "stated_error"]

SKETCHED = ("approx_quantile", "approx_count_distinct", "top_k")
_LG_REGISTERS = 12
_LG_COUNTERS = 10
_ERROR: dict[str, float] = {
    "approx_quantile": RANK_ERROR,
    "approx_count_distinct": 0.042,
    "top_k": 3.5 / 2**_LG_COUNTERS,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Sketched(Protocol):
    """An approximate aggregate: what may be done with its sketches, which callers only hand on."""

    @property
    def exact_up_to(self) -> int:
        """Up to how many values the answer is exact."""
        ...

    def of(self, values: Any, counts: Any = None, salt: int = 0) -> Any:
        """Sketch values.

        Args:
            values: Neither null nor NaN, a sequence or array (n,).
            counts: How often each occurs, whole numbers (n,); None is once.
            salt: Where the values are from, a position or a time; see ``mlflow_core.algebra.kll``.
        """
        ...

    def joined(self, sketches: Sequence[Any], salt: int = 0) -> Any:
        """Return the sketch of the union of disjoint sets of events."""
        ...

    def result(self, sketch: Any) -> Any:
        """Return the answer; None where it is null."""
        ...

    def dump(self, sketch: Any) -> bytes:
        """Return a sketch as DataSketches writes it."""
        ...

    def load(self, data: bytes) -> Any:
        """Read a sketch back."""
        ...


def sketched(function: Function) -> Sketched:
    """Return the approximate aggregate that a declared function stands for.

    Args:
        function: One of ``SKETCHED``, with its argument.

    Example:
        >>> top = sketched(Function("top_k", 2))
        >>> top.result(top.joined([top.of(["EWR", "JFK", "EWR"]), top.of(["LGA", "JFK", "EWR"])]))
        ['EWR', 'JFK']
    """
    if function.name == "approx_quantile":
        return _Quantile(float(function.argument or 0.0))
    if function.name == "approx_count_distinct":
        return _Distinct()
    return _Top(int(function.argument or 1))


def stated_error(function: Function) -> float:
    """Return the error that an approximate aggregate keeps in 99 of 100 windows.

    Returns:
        Of ``approx_quantile`` in ranks, as a share of the values; of ``approx_count_distinct`` as a share of the
        count; of ``top_k`` in occurrences, as a share of the events, kept in every window.
    """
    return _ERROR[function.name]


@dataclass(frozen=True, slots=True)
class _Quantile:
    q: float
    exact_up_to: int = K

    def of(self, values: Any, counts: Any = None, salt: int = 0) -> Any:
        numbers = np.asarray(values, np.float64)
        return kll_of(numbers if counts is None else np.repeat(numbers, counts), salt)

    def joined(self, sketches: Sequence[Any], salt: int = 0) -> Any:
        return kll_joined(sketches, salt)

    def result(self, sketch: Any) -> float | None:
        return kll_quantile(sketch, self.q)

    def dump(self, sketch: Any) -> bytes:
        return kll_bytes(sketch)

    def load(self, data: bytes) -> Any:
        return kll_from_bytes(data)


@dataclass(frozen=True, slots=True)
class _Distinct:
    exact_up_to: int = 256

    def of(self, values: Any, counts: Any = None, salt: int = 0) -> Any:  # noqa: ARG002
        from datasketches import hll_sketch

        made = hll_sketch(_LG_REGISTERS)
        for value in values:
            made.update(_written(value))
        return made

    def joined(self, sketches: Sequence[Any], salt: int = 0) -> Any:  # noqa: ARG002 (no coin is tossed)
        from datasketches import hll_union

        both = hll_union(_LG_REGISTERS)
        for sketch in sketches:
            both.update(sketch)
        return both.get_result()

    def result(self, sketch: Any) -> int:
        return round(float(sketch.get_estimate()))

    def dump(self, sketch: Any) -> bytes:
        return bytes(sketch.serialize_compact())

    def load(self, data: bytes) -> Any:
        from datasketches import hll_sketch

        return hll_sketch.deserialize(data)


@dataclass(frozen=True, slots=True)
class _Top:
    k: int
    exact_up_to: int = 3 * 2**_LG_COUNTERS // 4

    def of(self, values: Any, counts: Any = None, salt: int = 0) -> Any:  # noqa: ARG002
        from datasketches import frequent_strings_sketch

        made = frequent_strings_sketch(_LG_COUNTERS)
        for value, count in zip(values, _each(values, counts), strict=True):
            made.update(_written(value), int(count))
        return made

    def joined(self, sketches: Sequence[Any], salt: int = 0) -> Any:  # noqa: ARG002 (no coin is tossed)
        from datasketches import frequent_strings_sketch

        both = frequent_strings_sketch(_LG_COUNTERS)
        for sketch in sketches:
            both.merge(sketch)
        return both

    def result(self, sketch: Any) -> list[Any] | None:
        from datasketches import frequent_items_error_type

        kept = sketch.get_frequent_items(frequent_items_error_type.NO_FALSE_NEGATIVES, 0)
        ordered = sorted((-estimate, _read(text)) for text, estimate, _, _ in kept)
        return [value for _, value in ordered[: self.k]] or None

    def dump(self, sketch: Any) -> bytes:
        return bytes(sketch.serialize())

    def load(self, data: bytes) -> Any:
        from datasketches import frequent_strings_sketch

        return frequent_strings_sketch.deserialize(data)


def _each(values: Any, counts: Any) -> Iterable[int]:
    return (1 for _ in values) if counts is None else counts


def _written(value: Any) -> str:
    """One text for equal values, with its kind in front: the library ignores empty texts and knows no bytes."""
    # bool before int, of which it is one.
    if isinstance(value, bool | np.bool_):
        return f"?{int(value)}"
    if isinstance(value, int | np.integer):
        return f"i{int(value)}"
    if isinstance(value, float | np.floating):
        return f"f{(float(value) + 0.0).hex()}"  # -0.0 becomes 0.0
    if isinstance(value, str):
        return f"s{value}"
    if isinstance(value, bytes):
        return f"b{value.hex()}"
    if isinstance(value, uuid.UUID):
        return f"u{value.hex}"
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return f"t{(moment - _EPOCH) // timedelta(microseconds=1)}"
    raise EngineError(f"a sketch cannot hold {type(value).__name__}", expected="a value that can be compared")


def _read(text: str) -> Any:
    return _READ[text[0]](text[1:])


_READ: dict[str, Any] = {
    "?": lambda text: text == "1",
    "i": int,
    "f": float.fromhex,
    "s": str,
    "b": bytes.fromhex,
    "u": uuid.UUID,
    "t": lambda text: _EPOCH + timedelta(microseconds=int(text)),
}
