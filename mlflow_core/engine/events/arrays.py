"""Arrow columns as the kernels need them: one chunk, plain types, codes for equal values, ranks.

What a value is decided here once: dictionaries are decoded, times are microseconds in UTC, NaN is a null, and
-0.0 equals 0.0. What is done with values is not decided here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlflow_core.algebra.columns import settled, without_nan
from mlflow_core.engine.kernels.picking import picked
from mlflow_core.engine.times import Flags, Int64, frozen
from mlflow_core.errors import EngineError, SourceError

__all__ = [
    "as_floats",
    "as_integers",
    "codes",
    "gather",
    "index_array",
    "pick",
    "plain",
    "present",
    "ranks",
    "storage",
]


def plain(column: pa.ChunkedArray | pa.Array, *, name: str, title: str) -> pa.Array:
    """Return a column as one array without dictionary or odd time units.

    Args:
        column: Any Arrow column, (n,).
        name: The column's name, for errors.
        title: Whose column it is, for errors.

    Raises:
        SourceError: A value does not fit the type that the column has inside.
    """
    chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    try:
        chunked = without_nan(settled(chunked))
    except pa.ArrowInvalid as error:
        raise SourceError(f'column "{name}": {error}', object=title) from None
    combined = chunked.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):  # some types stay chunked
        return pa.concat_arrays(combined.chunks) if combined.num_chunks else pa.array([], combined.type)
    return combined


def storage(column: pa.Array | pa.ChunkedArray) -> Any:
    """Return what an extension type such as UUID is stored as; other columns as they are."""
    kind = column.type
    if not isinstance(kind, pa.BaseExtensionType):
        return column
    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
    return column.storage


def present(column: pa.Array) -> Flags:
    """Tell which values are not null, bool (n,)."""
    return np.array(column.is_valid(), np.bool_)


def as_floats(column: pa.Array) -> NDArray[np.float64]:
    """Return numbers, booleans or decimals as float64 (n,), 0.0 where null."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return np.array(column.cast(pa.float64(), safe=False).fill_null(0.0), np.float64)


def as_integers(column: pa.Array) -> Int64:
    """Return integers or booleans as int64 (n,), 0 where null."""
    return np.array(column.cast(pa.int64()).fill_null(0), np.int64)


def codes(column: pa.Array | pa.ChunkedArray) -> Int64:
    """Number the distinct values of a column in order of appearance, -1 for nulls; int64 (n,)."""
    column = storage(column)
    if pa.types.is_floating(column.type):
        column = pc.add(column, pa.scalar(0.0, column.type))  # -0.0 becomes 0.0
    if not pa.types.is_dictionary(column.type):
        column = pc.dictionary_encode(column)
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries().combine_chunks() if column.num_chunks else None
    if column is None:
        return np.zeros(0, np.int64)
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0)
    return np.array(column.indices.cast(pa.int64()).fill_null(-1), np.int64)


def ranks(column: pa.Array) -> Int64:
    """Return each value's dense rank, equal for equal values; any number for nulls; int64 (n,)."""
    column = storage(column)
    if pa.types.is_floating(column.type):
        column = pc.add(column, pa.scalar(0.0, column.type))
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_null(column.type):
        return np.zeros(len(column), np.int64)
    return np.array(pc.rank(column, sort_keys="ascending", tiebreaker="dense"), np.int64)


def pick(column: pa.Array, index: Int64) -> pa.Array:
    """Return the values at some places, null where the place is negative.

    Args:
        column: The values, any type.
        index: Places, int64 (m,).
    """
    taken = index_array(index)
    if isinstance(column.type, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(column.type, column.storage.take(taken))
    return column.take(taken)


def index_array(index: Int64) -> pa.Array:
    """Return places as Arrow's kernels take them: those that are negative become null."""
    missing = index < 0
    if not missing.any():
        return pa.array(index)
    return pa.array(np.where(missing, 0, index), pa.int64(), mask=missing)


def gather(column: pa.ChunkedArray, index: Int64, *, name: str, title: str) -> pa.Array:
    """Return the values at some places of a column in pieces, plain, null where the place is negative.

    Args:
        column: The column, (n,).
        index: Places in it, int64 (m,).
        name: The column's name, for errors.
        title: Whose column it is, for errors.

    Raises:
        IndexError: A place is beyond the column.
        SourceError: A value does not fit the type that the column has inside.
        EngineError: It holds more text or bytes than one array can.
    """
    if not len(column):
        return plain(pa.nulls(len(index), column.type), name=name, title=title)
    if int(index.max(initial=-1)) >= len(column):
        raise IndexError(f"place {int(index.max())} of {len(column)}")
    few = _FEW * len(index) < len(column)  # then a copy of the whole column costs more than is gained
    if column.type in (pa.int64(), pa.float64()) and not (
        few and (column.null_count or column.num_chunks > 1)
    ):
        return _numbers_at(column, index)
    if isinstance(column.type, pa.BaseExtensionType):
        found = storage(column).take(index_array(index))
        chunks = [pa.ExtensionArray.from_storage(column.type, chunk) for chunk in found.chunks]
        return plain(pa.chunked_array(chunks, column.type), name=name, title=title)
    try:
        return plain(column.take(index_array(index)), name=name, title=title)
    except pa.ArrowInvalid as error:
        raise EngineError(
            f'column "{name}": {column.nbytes / 2**30:.1f} GiB of {column.type} cannot be sorted in one piece: '
            f"{str(error).splitlines()[0]}",
            object=title,
            hint="Keep long texts beside the features, and a reference to them among the features.",
        ) from error


def _numbers_at(column: pa.ChunkedArray, index: Int64) -> pa.Array:
    """The same for numbers of eight bytes, which most features are, in one pass."""
    valid = np.asarray(column.is_valid()) if column.null_count else np.zeros(0, np.bool_)
    pieces = [np.asarray(chunk.fill_null(0) if chunk.null_count else chunk) for chunk in column.chunks]
    values = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    found, bits, missing = picked(frozen(values), frozen(valid), frozen(index))
    there = pa.py_buffer(bits) if missing else None
    return pa.Array.from_buffers(column.type, len(index), [there, pa.py_buffer(found)], missing)


_FEW = 4
