"""One window's values: from the kernels' answers to Arrow columns of the declared types.

``Sweep`` holds what the columns of one window share: the operations in order of time. Each family of functions
has one method; which events are seen, and when, was decided before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.algebra.aggregates import COUNTS, output_type
from mlflow_core.algebra.moments import GROW, HUGE, SHRINK
from mlflow_core.algebra.sketches import SKETCHED
from mlflow_core.engine.events import arrays
from mlflow_core.engine.kernels import sweeps
from mlflow_core.engine.kernels.ordering import order_within
from mlflow_core.engine.times import Flags, Int64
from mlflow_core.engine.views.sketching import sketch_values
from mlflow_core.errors import EngineError
from mlflow_core.spec import Function

__all__ = ["Sweep", "integer_sums", "list_column", "numbers_column", "window_values"]


@dataclass(frozen=True, slots=True)
class Sweep:
    """The operations of one window over all keys, and where each key's events are.

    Attributes:
        what: ENTER, LEAVE or ANSWER, int64 (n_operations,).
        which: Event positions and entity rows, int64 (n_operations,).
        start: Where each key's operations start, int64 (n_keys + 1,).
        event_from: Where each key's events start, int64 (n_keys + 1,).
        key: Each event's key, int64 (n_events,).
        n_rows: How many entity rows are answered.
    """

    what: Int64
    which: Int64
    start: Int64
    event_from: Int64
    key: Int64
    n_rows: int

    @staticmethod
    def of(
        event_from: Int64, key: Int64, enter: Int64, leave: Int64, row_from: Int64, row_time: Int64
    ) -> Sweep:
        """Schedule intervals ``[enter, leave)`` of events against entity rows; see ``sweeps.schedule``."""
        what, which, start = sweeps.schedule(
            event_from,
            enter,
            leave,
            order_within(event_from, enter),
            order_within(event_from, leave),
            row_from,
            row_time,
        )
        return Sweep(what, which, start, event_from, key, len(row_time))

    @property
    def operations(self) -> tuple[Int64, Int64, Int64]:
        """What the kernels walk."""
        return self.what, self.which, self.start

    def by_event_order(self, counted: Flags, quantiles: Sequence[float]) -> Any:
        """Positions of the first (0.0) and last (1.0) counted events; see ``sweeps.ranked``."""
        at = np.arange(len(self.key), dtype=np.int64)
        return sweeps.ranked(
            *self.operations,
            counted,
            self.event_from,
            at - self.event_from[self.key],
            at,
            np.array(quantiles, np.float64),
            self.n_rows,
        )

    def by_value(self, counted: Flags, rank: Int64, quantiles: Sequence[float]) -> Any:
        """Positions of the counted events around quantiles of their values; see ``sweeps.ranked``."""
        at_slot = order_within(self.event_from, rank)
        slot = np.empty(len(self.key), np.int64)
        slot[at_slot] = np.arange(len(self.key))
        slot -= self.event_from[self.key]
        return sweeps.ranked(
            *self.operations,
            counted,
            self.event_from,
            slot,
            at_slot,
            np.array(quantiles, np.float64),
            self.n_rows,
        )


def window_values(
    sweep: Sweep, values: pa.Array | None, counted: Flags, functions: Sequence[Function], *, title: str
) -> list[pa.Array]:
    """Compute functions of one column over one window.

    Args:
        sweep: The window's operations.
        values: The column in event order, (n_events,), NaN already null; None counts rows.
        counted: Which events pass the window's condition, bool (n_events,).
        functions: What to compute, all of this column.
        title: Whose window it is, for errors.

    Returns:
        One array (n_rows,) for each function, in the entity rows' sorted order.

    Raises:
        EngineError: A sum of integers does not fit in int64, or lists do not fit in one column.
        PlanError: A function does not apply to the column's type.
    """
    kinds = [
        output_type(function, None if values is None else values.type, title=title) for function in functions
    ]
    if values is not None:
        counted = counted & arrays.present(values)
    families: dict[str, list[int]] = {}
    for i, (function, kind) in enumerate(zip(functions, kinds, strict=True)):
        families.setdefault(_family(function, kind), []).append(i)
    results: dict[int, pa.Array] = {}
    for family, members in families.items():
        of_family = _COMPUTE[family](sweep, values, counted, [functions[i] for i in members], title)
        results.update(zip(members, of_family, strict=True))
    return [results[i] for i in range(len(functions))]


def _family(function: Function, kind: pa.DataType) -> str:
    name, argument = function
    if name in SKETCHED:
        return "sketch"
    if name in COUNTS:
        return name
    if name == "sum" and pa.types.is_integer(kind):
        return "limbs"
    if name in ("sum", "mean", "var", "std"):
        return "moments"
    if name in ("min", "max", "quantile"):
        return "value"
    return "order" if argument is None else "list"


Functions = Sequence[Function]
Results = list[pa.Array]


def _counts(sweep: Sweep, _values: Any, counted: Flags, functions: Functions, _title: str) -> Results:
    n = pa.array(sweeps.counts(*sweep.operations, counted, sweep.n_rows), pa.int64())
    return [n] * len(functions)


def _distincts(sweep: Sweep, values: pa.Array, counted: Flags, functions: Functions, _title: str) -> Results:
    code = arrays.codes(values)
    paired = sweep.key * (int(code.max(initial=0)) + 2) + code + 1
    dense = np.unique(paired, return_inverse=True)[1].astype(np.int64)
    n_codes = int(dense.max(initial=0)) + 1
    n = pa.array(sweeps.distincts(*sweep.operations, counted, dense, n_codes, sweep.n_rows), pa.int64())
    return [n] * len(functions)


def _limbs(sweep: Sweep, values: pa.Array, counted: Flags, functions: Functions, title: str) -> Results:
    n, total, fits = sweeps.limbs(*sweep.operations, counted, arrays.as_integers(values), sweep.n_rows)
    if not fits:
        raise _overflow(title)
    return [pa.array(total, pa.int64(), mask=n == 0)] * len(functions)


def integer_sums(high: Int64, low: Int64, missing: Flags, *, title: str) -> pa.Array:
    """Return exact sums of integers from their limbs; see ``mlflow_core.algebra.moments.limbs_of``.

    Args:
        high: High limbs, int64 (n,).
        low: Low limbs, int64 (n,).
        missing: Which sums are of no number, bool (n,).
        title: Whose sums they are.

    Raises:
        EngineError: A sum does not fit in int64.
    """
    top = high + (low >> 32)
    if bool(((top < -(1 << 31)) | (top >= 1 << 31)).any()):
        raise _overflow(title)
    return pa.array((top << 32) | (low & 0xFFFFFFFF), pa.int64(), mask=missing)


def _overflow(title: str) -> EngineError:
    return EngineError(
        "a sum of integers does not fit in int64",
        object=title,
        hint="Sum CAST(column AS DOUBLE) in the view's columns, or a shorter window.",
    )


def _moments(sweep: Sweep, values: pa.Array, counted: Flags, functions: Functions, _title: str) -> Results:
    numbers = arrays.as_floats(values)
    n, answers = _moments_of(sweep, counted, numbers)
    size = np.abs(numbers)
    if bool(((size > HUGE) & np.isfinite(size)).any()):
        # What overflows on the way to a finite value does not where the numbers are shrunk.
        _, shrunk = _moments_of(sweep, counted, numbers * SHRINK)
        with np.errstate(over="ignore"):
            for name, found in answers.items():
                grown = shrunk[name] * GROW * (GROW if name == "var" else 1.0)
                answers[name] = np.where(np.isfinite(found), found, grown)
    return [numbers_column(answers[function.name], n == 0) for function in functions]


def _moments_of(sweep: Sweep, counted: Flags, numbers: Any) -> tuple[Int64, dict[str, Any]]:
    n, total, mean, variance = sweeps.moments_at(
        *sweep.operations, counted, sweep.event_from, numbers, sweep.n_rows
    )
    return n, {"sum": total, "mean": mean, "var": variance, "std": np.sqrt(variance)}


def _by_value(sweep: Sweep, values: pa.Array, counted: Flags, functions: Functions, _title: str) -> Results:
    quantiles = [_ENDS.get(function.name, float(function.argument or 0.0)) for function in functions]
    below, above, fraction = sweep.by_value(counted, arrays.ranks(values), quantiles)
    results = []
    for i, function in enumerate(functions):
        if function.name in _ENDS:
            results.append(arrays.pick(values, below[i]))
            continue
        number = np.append(arrays.as_floats(values), np.nan)  # -1, an empty window, is NaN
        results.append(
            numbers_column(sweeps.between(number[below[i]], number[above[i]], fraction[i]), below[i] < 0)
        )
    return results


def _by_order(sweep: Sweep, values: Any, counted: Flags, functions: Functions, _title: str) -> Results:
    at, _, _ = sweep.by_event_order(counted, [_ENDS[function.name] for function in functions])
    return [arrays.pick(values, at[i]) for i in range(len(functions))]


def _lists(sweep: Sweep, values: Any, counted: Flags, functions: Functions, title: str) -> Results:
    n = sweeps.counts(*sweep.operations, counted, sweep.n_rows)
    results = []
    for function in functions:
        most, newest = int(function.argument or 1), function.name == "last"

        def places(offset: Int64, most: int = most, newest: bool = newest) -> Int64:
            return sweeps.lists(*sweep.operations, counted, sweep.event_from, most, newest, offset)

        results.append(list_column(values, np.minimum(n, most), places, function=function, title=title))
    return results


def _sketches(sweep: Sweep, values: pa.Array, counted: Flags, functions: Functions, title: str) -> Results:
    return [
        sketch_values(
            sweep.operations, sweep.event_from, values, counted, function, sweep.n_rows, title=title
        )
        for function in functions
    ]


def list_column(
    values: pa.Array, n: Int64, places: Callable[[Int64], Int64], *, function: Function, title: str
) -> pa.Array:
    """Make a column of lists.

    Args:
        values: The events' values, (n_events,).
        n: How many values each list has; none makes it null, int64 (n_rows,).
        places: Given where each list starts and the last ends, (n_rows + 1,), returns the values' positions.
        function: What the lists are, for errors.
        title: Whose lists they are, for errors.

    Raises:
        EngineError: All lists together hold more than an Arrow column can.
    """
    offset = np.zeros(len(n) + 1, np.int64)
    np.cumsum(n, out=offset[1:])
    if offset[-1] > _LIST_VALUES:
        raise EngineError(
            f"{function} has {int(offset[-1]):,} values in all lists together, an Arrow column holds {_LIST_VALUES:,}",
            object=title,
            hint="Keep fewer values in a list, or ask for fewer entity rows at a time.",
        )
    # A null list is said by a null offset.
    offsets = pa.array(offset.astype(np.int32), pa.int32(), mask=np.append(n == 0, False))
    return pa.ListArray.from_arrays(offsets, arrays.pick(values, places(offset)))


_LIST_VALUES = 2**31 - 1
_ENDS = {"min": 0.0, "max": 1.0, "first": 0.0, "last": 1.0}
_COMPUTE: dict[str, Callable[..., Results]] = {
    "count": _counts,
    "count_distinct": _distincts,
    "limbs": _limbs,
    "moments": _moments,
    "value": _by_value,
    "order": _by_order,
    "list": _lists,
    "sketch": _sketches,
}


def numbers_column(values: NDArray[np.float64], missing: Flags) -> pa.Array:
    """Return a float64 column (n,), null where a value is missing or NaN."""
    return pa.array(values, pa.float64(), mask=missing | np.isnan(values))
