"""Window aggregates at entity rows: which kernel answers which function, and Arrow columns from what it says.

A window's events are a range of positions, and most functions fold that range (``mlflow_core.engine.kernels.folds``) or take
what stands at its ends (``mlflow_core.engine.kernels.ranges``). Functions that need all values of a window at once, such as
exact quantiles, and data of which too much is hidden at the evaluation times, go to ``mlflow_core.engine.views.values``,
which sweeps over time. All give the same values; ``tests/engine/test_oracle.py`` holds them to the naive truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_core.algebra import expression
from mlflow_core.algebra.aggregates import output_type
from mlflow_core.algebra.moments import GROW, HUGE, SHRINK
from mlflow_core.engine.events import arrays
from mlflow_core.engine.events.clock import window_edges, window_interval
from mlflow_core.engine.events.history import Asked, History, Timed
from mlflow_core.engine.kernels.folds import fold
from mlflow_core.engine.kernels.ranges import at_end, count_seen, listed, reached
from mlflow_core.engine.times import Flags, Int64
from mlflow_core.engine.views.values import Sweep, integer_sums, list_column, numbers_column, window_values
from mlflow_core.spec import WindowColumn

__all__ = ["conditions_of", "window_columns"]


def window_columns(
    history: History, asked: Asked, windows: Sequence[WindowColumn], conditions: Mapping[str, Flags]
) -> dict[str, pa.Array]:
    """Compute window aggregates at entity rows.

    Args:
        history: The events.
        asked: The entity rows.
        windows: What to compute.
        conditions: For each condition of the windows which events it holds for, bool (n_events,).

    Returns:
        By name one array (n_rows,), null where a window is empty, also for counts.

    Raises:
        EngineError: A sum of integers does not fit in int64, or lists do not fit in one column.
        PlanError: A function does not apply to its column's type.
    """
    inputs: dict[tuple[str, str | None], list[WindowColumn]] = {}
    for window in windows:
        inputs.setdefault((window.column, window.where), []).append(window)
    columns: dict[str, pa.Array] = {}
    for (name, where), members in inputs.items():
        values = None if name == "*" else history.column(name)
        counted = np.ones(len(history.place), np.bool_) if where is None else conditions[where]
        columns |= _of_column(history, asked, values, counted, members)
    return columns


def conditions_of(
    history: History, windows: Sequence[WindowColumn], names: Sequence[str]
) -> dict[str, Flags]:
    """Evaluate the windows' conditions.

    Args:
        history: The events, with the columns that expressions give.
        windows: Whose conditions.
        names: The columns that the conditions read.
    """
    wanted = dict.fromkeys(window.where for window in windows if window.where is not None)
    if not wanted:
        return {}
    table = history.table(names)
    return {
        where: np.array(expression.holds(table, where, title=history.title), np.bool_) for where in wanted
    }


@dataclass(frozen=True, slots=True)
class _Work:
    """The counted events of one column, and the windows asked of them."""

    timed: Timed
    values: Any
    asked: Asked
    title: str
    geometry: tuple[WindowColumn, ...]
    low: Int64
    high: Int64

    @property
    def patience(self) -> int:
        return _PATIENCE * (self.low.size + len(self.timed.time))


_PATIENCE = 16
_EXACT = 2**53  # floats hold all integers up to here


def _of_column(
    history: History, asked: Asked, values: Any, counted: Flags, windows: Sequence[WindowColumn]
) -> dict[str, pa.Array]:
    kind = None if values is None else values.type
    for window in windows:
        output_type(window.function, kind, title=history.title)
    if values is not None:
        counted = counted & arrays.present(values)
    timed, positions = history.timed.only(counted)
    if values is not None and positions is not None:
        values = arrays.pick(values, positions)
    geometry = tuple({_shape(window): window for window in windows}.values())
    low = np.empty((len(geometry), len(asked.at)), np.int64)
    high = np.empty_like(low)
    ends: dict[tuple[object, ...], Int64] = {}  # windows that end alike do so at the same events
    for w, window in enumerate(geometry):
        after, until = window_edges(asked.at, window)
        low[w] = reached(timed.event_from, timed.time, asked.row_from, after)
        alike = (window.offset, window.boundary)
        if alike not in ends:
            ends[alike] = reached(timed.event_from, timed.time, asked.row_from, until)
        high[w] = ends[alike]
    np.minimum(low, high, out=low)
    work = _Work(timed, values, asked, history.title, geometry, low, high)
    families: dict[str, list[WindowColumn]] = {}
    for window in windows:
        families.setdefault(_FAMILIES.get(window.function.name, "swept"), []).append(window)
    found: dict[str, pa.Array] = {}
    for family, members in families.items():
        answer = _COMPUTE[family](work, members)
        found |= _swept(work, members) if answer is None else answer
    return found


def _shape(window: WindowColumn) -> tuple[object, ...]:
    return window.over, window.offset, window.boundary, window.hop


_FAMILIES = {
    **dict.fromkeys(("sum", "mean", "var", "std", "min", "max"), "fold"),
    "count": "count",
    "first": "end",
    "last": "end",
}


def _place(work: _Work, window: WindowColumn) -> int:
    return [_shape(one) for one in work.geometry].index(_shape(window))


def _count(work: _Work, windows: Sequence[WindowColumn]) -> dict[str, pa.Array] | None:
    found = {}
    for window in windows:
        w = _place(work, window)
        n = work.high[w] - work.low[w]
        if not work.timed.seen_all:
            n, enough = count_seen(
                work.low[w],
                work.high[w],
                work.timed.start,
                work.timed.end,
                work.asked.at,
                len(work.timed.time),
                True,
                work.patience,
            )
            if not enough:
                return None
        found[window.name] = pa.array(n, pa.int64())
    return found


def _end(work: _Work, windows: Sequence[WindowColumn]) -> dict[str, pa.Array] | None:
    found = {}
    for window in windows:
        w = _place(work, window)
        single = window.function.argument is None
        answer = _single(work, w, window) if single else _list(work, w, window)
        if answer is None:
            return None
        found[window.name] = answer
    return found


def _single(work: _Work, w: int, window: WindowColumn) -> pa.Array | None:
    newest = window.function.name == "last"
    low, high = work.low[w], work.high[w]
    if work.timed.seen_all:
        return arrays.pick(work.values, np.where(high > low, high - 1 if newest else low, -1))
    timed = work.timed
    at, enough = at_end(low, high, timed.start, timed.end, work.asked.at, newest, work.patience)
    return arrays.pick(work.values, at) if enough else None


def _list(work: _Work, w: int, window: WindowColumn) -> pa.Array | None:
    newest, most = window.function.name == "last", int(window.function.argument or 1)
    low, high, timed, at = work.low[w], work.high[w], work.timed, work.asked.at
    n = np.minimum(high - low, most)
    if not timed.seen_all:
        n, enough = count_seen(low, high, timed.start, timed.end, at, most, newest, work.patience)
        if not enough:
            return None

    def places(offset: Int64) -> Int64:
        return listed(low, high, timed.start, timed.end, at, timed.seen_all, newest, offset)

    return list_column(work.values, n, places, function=window.function, title=work.title)


def _fold(work: _Work, windows: Sequence[WindowColumn]) -> dict[str, pa.Array] | None:
    ends = [window for window in windows if window.function.name in ("min", "max")]
    others = [window for window in windows if window not in ends]
    numeric = _numeric(work.values.type)
    numbers = arrays.as_floats(work.values) if numeric else np.zeros(0)
    found: dict[str, pa.Array] = {}
    if ends and not (numeric and _orders_as_floats(work.values)):
        folded = _folded(
            work, arrays.ranks(work.values).astype(np.float64), np.zeros(0, np.int64), spread=False
        )
        if folded is None:
            return None
        found = _ends(work, ends, folded[1])
        ends = []
    if not ends and not others:
        return found
    whole = np.zeros(0, np.int64)
    if any(window.function.name == "sum" for window in others) and not pa.types.is_floating(work.values.type):
        whole = arrays.as_integers(work.values)
    spread = any(window.function.name in ("var", "std") for window in others)
    folded = _folded(work, numbers, whole, spread=spread)
    if folded is None:
        return None
    answers, chosen = folded
    again = _folded(work, numbers * SHRINK, np.zeros(0, np.int64), spread=spread) if _huge(numbers) else None
    found |= _ends(work, ends, chosen)
    for window in others:
        w = _place(work, window)
        shrunk = None if again is None else again[0][:, w]
        if window.function.name == "sum" and not pa.types.is_floating(work.values.type):
            missing = chosen[0, w] == 0
            found[window.name] = integer_sums(chosen[1, w], chosen[2, w], missing, title=work.title)
        else:
            found[window.name] = _moments(window.function.name, answers[:, w], shrunk, chosen[0, w])
    return found


def _folded(work: _Work, value: Any, whole: Int64, *, spread: bool) -> tuple[Any, Any] | None:
    timed = work.timed
    answers, chosen, enough = fold(
        timed.event_from,
        work.asked.row_from,
        work.low,
        work.high,
        value,
        whole,
        timed.start,
        timed.end,
        work.asked.at,
        timed.seen_all,
        spread,
        work.patience,
    )
    return (answers, chosen) if enough else None


def _moments(name: str, answers: Any, shrunk: Any, n: Int64) -> pa.Array:
    number = _moment(name, answers, n)
    if shrunk is not None:
        # What overflows on the way to a finite value does not where the numbers are shrunk.
        with np.errstate(over="ignore"):
            grown = _moment(name, shrunk, n) * GROW * (GROW if name == "var" else 1.0)
        number = np.where(np.isfinite(number), number, grown)
    return numbers_column(number, n == 0)


def _moment(name: str, answers: Any, n: Int64) -> Any:
    if name == "sum":
        return answers[0]
    if name == "mean":
        return answers[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(n > 1, answers[2] / (n - 1), np.nan)
        return variance if name == "var" else np.sqrt(variance)


def _ends(work: _Work, windows: Sequence[WindowColumn], chosen: Any) -> dict[str, pa.Array]:
    which = {"min": 3, "max": 4}
    return {
        window.name: arrays.pick(work.values, chosen[which[window.function.name], _place(work, window)])
        for window in windows
    }


def _numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _orders_as_floats(values: pa.Array) -> bool:
    if not pa.types.is_integer(values.type) or not len(values):
        return True
    ends = pc.min_max(values).as_py()
    return bool(ends["min"] >= -_EXACT and ends["max"] <= _EXACT)


def _huge(numbers: Any) -> bool:
    if not len(numbers) or (numbers.min() >= -HUGE and numbers.max() <= HUGE):
        return False
    size = np.abs(numbers)
    return bool(((size > HUGE) & np.isfinite(size)).any())


def _swept(work: _Work, windows: Sequence[WindowColumn]) -> dict[str, pa.Array]:
    """What needs all values of a window at once, or steps over too much: one sweep over time for each window."""
    found: dict[str, pa.Array] = {}
    timed = work.timed
    start, end = timed.intervals()
    for shape in work.geometry:
        members = [window for window in windows if _shape(window) == _shape(shape)]
        if not members:
            continue
        enter, leave = window_interval(timed.time, start, end, shape)
        sweep = Sweep.of(timed.event_from, timed.key, enter, leave, work.asked.row_from, work.asked.at)
        functions = [window.function for window in members]
        counted = np.ones(len(timed.time), np.bool_)
        answers = window_values(sweep, work.values, counted, functions, title=work.title)
        found |= {window.name: answer for window, answer in zip(members, answers, strict=True)}
    return found


_COMPUTE: dict[str, Callable[..., dict[str, pa.Array] | None]] = {
    "count": _count,
    "end": _end,
    "fold": _fold,
    "swept": _swept,
}
