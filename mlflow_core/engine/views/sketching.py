"""Approximate aggregates over one window: exactly where sketches are exact, from a tree of sketches elsewhere.

A window of few events is answered from its values, which is what a sketch of them would say. For a long one the
key's events are cut in blocks of 256; a block that lies in the window whole comes as a sketch, made once and
joined with its neighbours' in a binary tree, and the rest as single values. It walks the operations of
``sweeps.schedule``, so late, corrected and deleted events are no special case. What the sketches promise is
``mlflow_core.algebra.sketches``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_core.algebra.aggregates import empty_value, output_type
from mlflow_core.algebra.sketches import Sketched, sketched
from mlflow_core.engine.events import arrays
from mlflow_core.engine.kernels import sweeps
from mlflow_core.engine.kernels.schedule import ANSWER, ENTER
from mlflow_core.engine.times import Flags, Int64
from mlflow_core.spec import Function

__all__ = ["sketch_values"]

BLOCK = 256
_AT_ONCE = 4_000_000  # positions of small windows that are held in memory together
Operations = tuple[Int64, Int64, Int64]


def sketch_values(
    operations: Operations,
    event_from: Int64,
    values: pa.Array,
    counted: Flags,
    function: Function,
    n_rows: int,
    *,
    title: str,
) -> pa.Array:
    """Compute an approximate aggregate of one column over one window.

    Args:
        operations: What, which and start, as ``sweeps.schedule`` gives them.
        event_from: Where each key's events start, int64 (n_keys + 1,).
        values: The column in event order, (n_events,), NaN already null.
        counted: Which events pass the window's condition and have a value, bool (n_events,).
        function: One of ``algebra.sketches.SKETCHED``.
        n_rows: How many entity rows are answered.
        title: Whose window it is, for errors.

    Returns:
        The answers, (n_rows,), in the entity rows' sorted order.

    Raises:
        PlanError: The function does not apply to the column's type.
    """
    kind = output_type(function, values.type, title=title)
    column = _Column.of(values, function)
    n = sweeps.counts(*operations, counted, n_rows)
    answers: list[Any] = [empty_value(function)] * n_rows
    for rows in _batches(n, column.sketched.exact_up_to):
        for row, answer in _exactly(_only(operations, rows), event_from, column, counted, function, n):
            answers[row] = answer
    large = n > column.sketched.exact_up_to
    if bool(large.any()):
        for row, answer in _by_tree(_only(operations, large), event_from, column, counted):
            answers[row] = answer
    return _typed(answers, kind)


@dataclass(frozen=True, slots=True)
class _Column:
    """The aggregated column as sketches need it.

    Attributes:
        sketched: The aggregate.
        code: Equal for equal values, the smaller for the smaller value, int64 (n_events,).
        distinct: The value of each code, plain Python, or float64 for quantiles.
    """

    sketched: Sketched
    code: Int64
    distinct: Any

    @staticmethod
    def of(values: pa.Array, function: Function) -> _Column:
        code = arrays.ranks(values)
        first = np.zeros(int(code.max(initial=0)) + 1, np.int64)
        present = np.flatnonzero(arrays.present(values))
        first[code[present]] = present
        if function.name == "approx_quantile":
            return _Column(
                sketched(function), code, arrays.as_floats(values)[first] if len(values) else first
            )
        plain = arrays.storage(values)
        if pa.types.is_timestamp(plain.type):
            plain = plain.cast(pa.int64())
        if pa.types.is_floating(plain.type):
            plain = pc.add(plain, pa.scalar(0.0, plain.type))  # -0.0 becomes 0.0
        distinct = plain.take(pa.array(first)).to_pylist() if len(values) else []
        return _Column(sketched(function), code, distinct)

    def sketch(self, at: Int64) -> Any:
        """Sketch the values of some events, at least one."""
        code, count = np.unique(self.code[at], return_counts=True)
        if isinstance(self.distinct, np.ndarray):
            return self.sketched.of(self.distinct[code], count, salt=int(at[0]))
        return self.sketched.of([self.distinct[one] for one in code], count, salt=int(at[0]))


def _batches(n: Int64, most: int) -> Iterator[Flags]:
    """Part the entity rows of small windows so that their events fit in memory."""
    small = (n > 0) & (n <= most)
    batch = np.cumsum(np.where(small, n, 0)) // _AT_ONCE
    for one in np.unique(batch[small]):
        yield small & (batch == one)


def _only(operations: Operations, rows: Flags) -> Operations:
    """Leave out the answers that are not asked for, and keys without any."""
    what, which, start = operations
    answers = what == ANSWER
    answers[answers] = rows[which[answers]]
    before = np.concatenate([[0], np.cumsum(answers)])
    asked = before[start[1:]] > before[start[:-1]]
    keep = (answers | (what != ANSWER)) & np.repeat(asked, np.diff(start))
    after = np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)
    return what[keep], which[keep], after[start]


def _exactly(
    operations: Operations,
    event_from: Int64,
    column: _Column,
    counted: Flags,
    function: Function,
    n: Int64,
) -> Iterator[tuple[int, Any]]:
    """Answer small windows from all of their values."""
    rows = np.sort(operations[1][operations[0] == ANSWER])
    offset = np.zeros(len(n) + 1, np.int64)
    np.cumsum(np.where(np.isin(np.arange(len(n)), rows), n, 0), out=offset[1:])
    at = sweeps.lists(*operations, counted, event_from, column.sketched.exact_up_to, False, offset)
    row = np.repeat(rows, n[rows])
    code = column.code[at]
    order = np.lexsort((code, row))
    code = code[order]
    if function.name == "approx_quantile":
        place = np.maximum(np.ceil(float(function.argument or 0.0) * n[rows]).astype(np.int64) - 1, 0)
        yield from zip(rows.tolist(), column.distinct[code[offset[rows] + place]].tolist(), strict=True)
        return
    fresh = np.ones(len(code), np.bool_)
    fresh[1:] = (code[1:] != code[:-1]) | (row[1:] != row[:-1])
    starts = np.flatnonzero(fresh)
    found, owner = np.unique(row[starts], return_inverse=True)
    n_distinct = np.bincount(owner)
    if function.name == "approx_count_distinct":
        yield from zip(found.tolist(), n_distinct.tolist(), strict=True)
        return
    times = np.diff(np.append(starts, len(code)))
    ranked = np.lexsort((code[starts], -times, owner))
    best = code[starts][ranked]
    ends = np.cumsum(n_distinct)
    most = int(function.argument or 1)
    for one, end, size in zip(found.tolist(), ends.tolist(), n_distinct.tolist(), strict=True):
        yield one, [column.distinct[value] for value in best[end - size : end - size + min(size, most)]]


def _by_tree(
    operations: Operations, event_from: Int64, column: _Column, counted: Flags
) -> Iterator[tuple[int, Any]]:
    """Answer long windows, key by key in order of time."""
    what, which, start = operations
    for key in np.flatnonzero(np.diff(start)).tolist():
        first, last = int(event_from[key]), int(event_from[key + 1])
        mine = slice(int(start[key]), int(start[key + 1]))
        tree = _Tree(column, first, np.flatnonzero(counted[first:last]), last - first)
        before, known = 0, None
        ops, positions = what[mine], which[mine]
        for stop in np.flatnonzero(ops == ANSWER).tolist():
            moved = positions[before:stop]
            entering = ops[before:stop] == ENTER
            chosen = counted[moved]
            before = stop + 1
            if known is None or bool(chosen.any()):
                tree.move(moved[entering & chosen] - first, 1)
                tree.move(moved[~entering & chosen] - first, -1)
                known = tree.answer()
            yield int(positions[stop]), known


@dataclass(slots=True)
class _Tree:
    """The events of one key, which of them are in the window, and the sketches of whole blocks."""

    column: _Column
    first: int
    countable: Int64
    size: int
    inside: Int64 = field(init=False)
    held: Int64 = field(init=False)
    full: Int64 = field(init=False)
    made: dict[tuple[int, int], Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        n_blocks = math.ceil(self.size / BLOCK)
        self.inside = np.zeros(self.size, np.int64)
        self.held = np.zeros(n_blocks, np.int64)
        self.full = np.bincount(self.countable // BLOCK, minlength=n_blocks)

    def move(self, at: Int64, sign: int) -> None:
        """Let events enter (1) or leave (-1) the window."""
        np.add.at(self.inside, at, sign)  # an event that enters and leaves between two answers is in both
        np.add.at(self.held, at // BLOCK, sign)

    def answer(self) -> Any:
        """Answer for what is in the window now."""
        sketches = []
        loose = np.flatnonzero((self.held > 0) & (self.held < self.full))
        for block in loose.tolist():
            at = np.flatnonzero(self.inside[block * BLOCK : (block + 1) * BLOCK]) + block * BLOCK
            sketches.append(self.column.sketch(at + self.first))
        # A block in which nothing counts does not part its neighbours.
        whole = self.held == self.full
        edges = np.flatnonzero(np.diff(np.concatenate([[False], whole, [False]]).astype(np.int8)))
        for low, high in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            if self.held[low:high].any():
                sketches.extend(self._covering(low, high))
        return self.column.sketched.result(self.column.sketched.joined(sketches, salt=self.first))

    def _covering(self, low: int, high: int) -> Iterator[Any]:
        """Yield sketches of the largest whole nodes that make up blocks [low, high)."""
        while low < high:
            level = 0
            while low % (2 << level) == 0 and low + (2 << level) <= high:
                level += 1
            node = self._node(level, low >> level)
            if node is not None:
                yield node
            low += 1 << level

    def _node(self, level: int, index: int) -> Any:
        if (level, index) not in self.made:
            if level == 0:
                low, high = np.searchsorted(self.countable, [index * BLOCK, (index + 1) * BLOCK])
                at = self.countable[low:high] + self.first
                made = self.column.sketch(at) if len(at) else None
            else:
                halves = [self._node(level - 1, 2 * index), self._node(level - 1, 2 * index + 1)]
                some = [half for half in halves if half is not None]
                made = self.column.sketched.joined(some, salt=index) if some else None
            self.made[level, index] = made
        return self.made[level, index]


def _typed(answers: list[Any], kind: pa.DataType) -> pa.Array:
    """Put plain Python values in a column of the aggregate's type."""
    if not pa.types.is_list(kind):
        return pa.array(answers, kind)
    item = kind.value_type
    if isinstance(item, pa.BaseExtensionType):
        lists = pa.array(answers, pa.list_(item.storage_type))
        values = pa.ExtensionArray.from_storage(item, lists.values)
        return pa.ListArray.from_arrays(lists.offsets, values, mask=lists.is_null())
    if pa.types.is_timestamp(item):
        return pa.array(answers, pa.list_(pa.int64())).cast(kind)
    return pa.array(answers, kind)
