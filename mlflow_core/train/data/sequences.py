"""Lists unrolled: which element goes to which position of which row.

A sequence has a fixed number of positions. A list is aligned to their end, because the engine writes ``last(n)``
oldest first: the newest element has the last position in every row, whatever is missing before it. Of a list that is
longer than that, the newest elements are kept. What the elements mean is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

__all__ = ["Unrolled", "item_type", "lengths_of", "unroll", "unroll_values"]


@dataclass(frozen=True)
class Unrolled:
    """The elements of some rows' lists, one after another.

    Args:
        items: The elements kept: an Arrow array, or a list of Python values.
        rows: (n_items,) int64: whose each is.
        positions: (n_items,) int64: where it goes, 0 to the sequence's length - 1.
        lengths: (n_rows,) int64: how many of each row were kept; 0 for an empty list and for none.
    """

    items: Any
    rows: NDArray[np.int64]
    positions: NDArray[np.int64]
    lengths: NDArray[np.int64]


def item_type(type_: pa.DataType) -> pa.DataType | None:
    """The type of a list's elements; None if it is no list."""
    if pa.types.is_dictionary(type_):
        return item_type(type_.value_type)
    listed = (
        pa.types.is_list,
        pa.types.is_large_list,
        pa.types.is_fixed_size_list,
        pa.types.is_list_view,
        pa.types.is_large_list_view,
    )
    return type_.value_type if any(one(type_) for one in listed) else None


def lengths_of(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """How many elements each list has, (n_rows,) int64; 0 for a null."""
    if pa.types.is_null(column.type):
        return np.zeros(len(column), dtype=np.int64)
    lengths: NDArray[np.int64] = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    return lengths


def unroll(column: pa.Array, length: int) -> Unrolled:
    """Unroll an Arrow array of lists.

    Args:
        column: Lists of any Arrow kind, (n_rows,); nulls are as empty lists.
        length: How many positions there are.
    """
    lengths = lengths_of(column)
    items = pa.nulls(0) if pa.types.is_null(column.type) else pc.list_flatten(column)
    rows, positions = _places(lengths, length)
    kept = positions >= 0
    if not kept.all():
        items = items.filter(pa.array(kept))
    return Unrolled(items, rows[kept], positions[kept], np.minimum(lengths, length))


def unroll_values(values: Sequence[Sequence[Any] | None], length: int) -> Unrolled:
    """Unroll Python lists; None is as an empty one."""
    lists = [value if value is not None else () for value in values]
    newest = [one[max(0, len(one) - length) :] for one in lists]
    lengths = np.fromiter((len(one) for one in newest), np.int64, len(newest))
    return Unrolled([item for one in newest for item in one], *_places(lengths, length), lengths)


def _places(lengths: NDArray[np.int64], length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ends = np.cumsum(lengths)
    rows = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    return rows, np.arange(len(rows), dtype=np.int64) - np.repeat(ends, lengths) + length
