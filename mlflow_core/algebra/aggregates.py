"""What each window aggregate means: ``init, update, merge, finish`` over the events of one window.

The meaning is written once. The stream folds these functions event by event; the batch kernels of
``mlflow_core.engine`` run the same arithmetic (``mlflow_core.algebra.moments``) inside faster structures and
are tested against them. Which events are in a window is not decided here, nor are nulls skipped here: a value
that reaches ``update`` counts. Approximate ones are sketches (``mlflow_core.algebra.sketches``), whose state is
their serialised form, so that a stream can store it as it stands.

A state is an immutable value. ``order`` is the event's (event time, created, source row), by which first and
last are chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from mlflow_core.algebra.moments import (
    GROW,
    SHRINK,
    Moments,
    limbs_fit,
    limbs_of,
    limbs_value,
    merge_moments,
    moments_of,
    quantile_between,
    quantile_place,
    variance,
)
from mlflow_core.algebra.sketches import SKETCHED, Sketched, sketched
from mlflow_core.errors import PlanError
from mlflow_core.spec import Function

__all__ = ["Aggregate", "aggregate_of", "empty_value", "output_type"]

Order = tuple[int, int, int]
COUNTS = ("count", "count_distinct", "approx_count_distinct")
_TwoMoments = tuple[Moments, Moments]  # of the numbers, and of the numbers shrunk
_NOTHING: Moments = (0, 0.0, 0.0, 0.0)
_NUMERIC = ("sum", "mean", "std", "var", "quantile", "approx_quantile")
_COMPARED = ("min", "max", "count_distinct", "approx_count_distinct", "top_k")


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One aggregate function.

    Attributes:
        init: The state of no events.
        update: ``(state, value, order) -> state`` with one more event; the value is no null and no NaN.
        merge: ``(state, state) -> state`` of two disjoint sets of events, in any order.
        finish: ``state -> value``; None where the result is null.
    """

    init: Any
    update: Callable[[Any, Any, Order], Any]
    merge: Callable[[Any, Any], Any]
    finish: Callable[[Any], Any]


def aggregate_of(function: Function, input: pa.DataType | None) -> Aggregate:
    """Return the aggregate that a declared function of a column stands for.

    Args:
        function: The function with its argument.
        input: The column's Arrow type; None where rows are counted.

    Example:
        >>> mean = aggregate_of(Function("mean"), pa.float64())
        >>> state = mean.update(mean.update(mean.init, 1.0, (0, 0, 0)), 2.0, (1, 1, 1))
        >>> mean.finish(state)
        1.5
    """
    name, argument = function
    if name in SKETCHED:
        return _of_sketch(sketched(function))
    if name == "sum" and input is not None and _whole(input):
        return Aggregate((0, 0, 0), _add_whole, _added, _whole_sum)
    if name in _MOMENTS:
        return Aggregate((_NOTHING, _NOTHING), _add_moments, _merged_moments, _MOMENTS[name])
    if name == "count":
        return Aggregate(0, lambda n, _value, _order: n + 1, lambda a, b: a + b, lambda n: n)
    if name == "count_distinct":
        return Aggregate(frozenset(), lambda s, value, _order: s | {value}, lambda a, b: a | b, len)
    if name == "quantile":
        finish = partial(_quantile, q=float(argument or 0.0))
        return Aggregate((), lambda s, value, _order: (*s, value), lambda a, b: a + b, finish)
    if name in ("min", "max"):
        pick = _smallest if name == "min" else _greatest
        return Aggregate(
            (), lambda s, value, order: pick((*s, (value, order))), lambda a, b: pick(a + b), _only
        )
    n = int(argument or 1)
    keep = partial(_ends, n=n if name == "first" else -n)
    return Aggregate(
        (),
        lambda s, value, order: keep((*s, (order, value))),
        lambda a, b: keep(a + b),
        _only_last if argument is None else _listed,
    )


def output_type(function: Function, input: pa.DataType | None, *, title: str) -> pa.DataType:
    """Return the Arrow type of an aggregate's result.

    Args:
        function: The function with its argument.
        input: The column's Arrow type; None where rows are counted.
        title: Whose column it is, for the error.

    Raises:
        PlanError: The function does not apply to columns of this type.
    """
    name, argument = function
    if input is not None and pa.types.is_dictionary(input):
        input = input.value_type
    if input is not None and not _applies(name, input):
        raise PlanError(
            f"{function} does not apply to a column of type {input}",
            object=title,
            expected="a number or boolean" if name in _NUMERIC else "a column whose values can be compared",
            hint="Convert it with an SQL expression in the view's columns.",
        )
    if name in COUNTS:
        return pa.int64()
    if name == "sum":
        return pa.int64() if input is not None and _whole(input) else pa.float64()
    if name in _NUMERIC:
        return pa.float64()
    return input if argument is None else pa.list_(input)


def empty_value(function: Function) -> int | None:
    """Return the value over no events, which is also an unknown key's: 0 for counts, else None."""
    return 0 if function.name in COUNTS else None


def _of_sketch(kind: Sketched) -> Aggregate:
    def one_more(state: bytes, value: Any, order: Order) -> bytes:
        salt = order[0] ^ order[2]
        return kind.dump(kind.joined([kind.load(state), kind.of([value], salt=salt)], salt))

    def merged(a: bytes, b: bytes) -> bytes:
        return kind.dump(kind.joined([kind.load(a), kind.load(b)]))

    return Aggregate(kind.dump(kind.of([])), one_more, merged, lambda state: kind.result(kind.load(state)))


def _applies(name: str, kind: pa.DataType) -> bool:
    if name in _NUMERIC:
        return bool(_whole(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
    return name not in _COMPARED or not pa.types.is_nested(kind)


def _whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _add_whole(state: tuple[int, int, int], value: int, _order: Order) -> tuple[int, int, int]:
    return _added(state, (1, *limbs_of(int(value))))


def _added(a: tuple[int, int, int], b: tuple[int, int, int]) -> tuple[int, int, int]:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _whole_sum(state: tuple[int, int, int]) -> int | None:
    n, high, low = state
    if n == 0:
        return None
    if not limbs_fit(high, low):
        raise OverflowError("the sum of integers does not fit in int64")
    return limbs_value(high, low)


def _add_moments(state: _TwoMoments, value: float, _order: Order) -> _TwoMoments:
    return _merged_moments(state, (moments_of(float(value)), moments_of(float(value) * SHRINK)))


def _merged_moments(a: _TwoMoments, b: _TwoMoments) -> _TwoMoments:
    return merge_moments(*a[0], *b[0]), merge_moments(*a[1], *b[1])


def _finite(
    of: Callable[[Moments], float], state: _TwoMoments, grow: float, again: float = 1.0
) -> float | None:
    """Take a result from the numbers as they are, or from the shrunk ones where it overflowed on the way."""
    plain, shrunk = state
    value = of(plain)
    return _number(plain[0], value if math.isfinite(value) else of(shrunk) * grow * again)


_MOMENTS: dict[str, Callable[[_TwoMoments], float | None]] = {
    "sum": lambda state: _finite(lambda m: m[1], state, GROW),
    "mean": lambda state: _finite(lambda m: m[2], state, GROW),
    "var": lambda state: _finite(lambda m: variance(m[0], m[3]), state, GROW, GROW),
    "std": lambda state: _finite(lambda m: math.sqrt(variance(m[0], m[3])), state, GROW),
}


def _number(n: int, value: float) -> float | None:
    return None if n == 0 or math.isnan(value) else value


def _quantile(values: tuple[float, ...], q: float) -> float | None:
    if not values:
        return None
    below, above, fraction = quantile_place(len(values), q)
    ordered = sorted(float(value) for value in values)
    return _number(1, quantile_between(ordered[below], ordered[above], fraction))


def _smallest(candidates: tuple[tuple[Any, Order], ...]) -> tuple[tuple[Any, Order], ...]:
    return (min(candidates),) if candidates else ()


def _greatest(candidates: tuple[tuple[Any, Order], ...]) -> tuple[tuple[Any, Order], ...]:
    return (max(candidates),) if candidates else ()


def _ends(events: tuple[tuple[Order, Any], ...], n: int) -> tuple[tuple[Order, Any], ...]:
    ordered = tuple(sorted(events, key=lambda event: event[0]))
    return ordered[:n] if n > 0 else ordered[n:]


def _only(state: tuple[tuple[Any, Order], ...]) -> Any:
    return state[0][0] if state else None


def _only_last(state: tuple[tuple[Order, Any], ...]) -> Any:
    return state[0][1] if state else None


def _listed(state: tuple[tuple[Order, Any], ...]) -> list[Any] | None:
    return [value for _, value in state] or None
