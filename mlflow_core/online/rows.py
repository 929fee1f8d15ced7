"""Rows on their way to a store: pairs of bytes, or a block of them side by side in memory, and which of them count.

Most views have rows of one length, and so have their keys. Such a block is packed by numpy as a whole and cut into
pairs only by a store that needs them so: a million small objects cost more than all that is done with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from mlflow_core.errors import StoreError
from mlflow_core.online.head import SCHEMA_AT, VERSION_BYTES

__all__ = ["Row", "RowBlock", "bytes_of", "greatest", "one_schema"]

Row: TypeAlias = tuple[bytes, bytes]
"""A key (``keys.encode_key``) and the value stored under it (``RowCodec.encode``)."""


class RowBlock(Sequence[Row]):
    """Rows of one length of keys and one of values.

    Args:
        spelled: Their keys, any numpy type of that many bytes; shape (n_rows,).
        packed: Their values, the same; shape (n_rows,).

    Example:
        >>> block = RowBlock(np.array([b"a", b"b"], "V1"), np.array([b"one", b"two"], "V3"))
        >>> list(block), block[1], len(block[:1])
        ([(b'a', b'one'), (b'b', b'two')], (b'b', b'two'), 1)
    """

    def __init__(self, spelled: npt.NDArray[Any], packed: npt.NDArray[Any]) -> None:
        if len(spelled) != len(packed):
            raise ValueError(f"{len(spelled)} keys were given for {len(packed)} values")
        self.spelled = np.ascontiguousarray(spelled)
        self.packed = np.ascontiguousarray(packed)

    def __len__(self) -> int:
        return len(self.spelled)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> RowBlock: ...
    def __getitem__(self, at: int | slice) -> Row | RowBlock:
        if isinstance(at, slice):
            return RowBlock(self.spelled[at], self.packed[at])
        return self.spelled[at].tobytes(), self.packed[at].tobytes()

    def __iter__(self) -> Iterator[Row]:
        return zip(_cut(self.spelled), _cut(self.packed), strict=True)

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values."""
        return int(self.spelled.nbytes + self.packed.nbytes)

    @property
    def distinct(self) -> bool:
        """Whether no key is there twice."""
        if self.spelled.itemsize >= _TAIL:
            # Sorting numbers is far cheaper than hashing bytes, and the ends of most keys tell them apart.
            ends = np.ascontiguousarray(_matrix(self.spelled)[:, -_TAIL:]).view(np.uint64).ravel()
            ends.sort()
            if not (ends[1:] == ends[:-1]).any():
                return True
        return len(set(_cut(self.spelled))) == len(self)

    @property
    def schemas(self) -> set[bytes]:
        """The schemas of its values."""
        found = _matrix(self.packed)[:, SCHEMA_AT]
        if (found == found[:1]).all():
            return {one.tobytes() for one in found[:1]}
        return {one.tobytes() for one in found}


def greatest(rows: Sequence[Row]) -> Sequence[Row]:
    """Return one row a key: of several the one of the greatest version, of several such the last."""
    if isinstance(rows, RowBlock) and rows.distinct:
        return rows
    best = dict(iter(rows))
    if len(best) == len(rows):
        return rows
    best.clear()
    for key, value in rows:
        old = best.get(key)
        if old is None or value[:VERSION_BYTES] >= old[:VERSION_BYTES]:
            best[key] = value
    return list(best.items())


def one_schema(rows: Sequence[Row], view: str) -> bytes:
    """Return the schema that rows, at least one, were packed with.

    Raises:
        StoreError: They are of several.
    """
    schemas = rows.schemas if isinstance(rows, RowBlock) else {value[SCHEMA_AT] for _, value in rows}
    if len(schemas) > 1:
        raise StoreError(f"rows of {len(schemas)} schemas were written at once", object=f'view "{view}"')
    return schemas.pop()


def bytes_of(rows: Sequence[Row]) -> int:
    """Return how many bytes keys and values have together."""
    return rows.nbytes if isinstance(rows, RowBlock) else sum(map(len, chain.from_iterable(rows)))


_TAIL = 8


def _cut(records: npt.NDArray[Any]) -> list[bytes]:
    cut: list[bytes] = records.view(f"V{records.itemsize}").tolist()
    return cut


def _matrix(records: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return records.view(np.uint8).reshape(len(records), records.itemsize)
