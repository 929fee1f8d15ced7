"""How a store spells keys and rows: packed, as this package writes them, or another form that can be read, too.

The reader (``reader``) knows only this interface, so that what a value means is decided in one place whichever
form it was stored in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from mlflow_core.online.codec import Block
from mlflow_core.online.head import KIND_AT, SIGN, Kind
from mlflow_core.online.keys import encode_key
from mlflow_core.online.layout import codec_of
from mlflow_core.spec import DType, FeatureView

__all__ = ["KeyColumn", "Packed", "PackedRows", "StoredForm", "StoredRows"]

KeyColumn: TypeAlias = tuple[str, DType]
"""A key column's name in the view, and its type."""


class StoredRows(Protocol):
    """The stored rows of one view, as a form has them."""

    @property
    def names(self) -> tuple[str, ...]:
        """The features that a block has, in order."""
        ...

    @property
    def dtypes(self) -> tuple[DType, ...]:
        """Their types."""
        ...

    def absent(self, values: Sequence[Any]) -> list[int]:
        """Return at which places no row was found, or the tombstone of one."""
        ...

    def block(self, rows: Sequence[Any]) -> Block:
        """Decode rows that are there.

        Raises:
            StoreError: A row cannot be read: it is damaged, or of another definition.
        """
        ...

    def times(self, rows: Sequence[Any]) -> list[int]:
        """Return the times of the rows' versions: boundary or event time, microseconds since epoch, UTC."""
        ...


class StoredForm(Protocol):
    """A way to keep rows."""

    def key_encoder(self, columns: Sequence[KeyColumn]) -> Callable[[Sequence[Any]], bytes]:
        """Return what spells the values of these key columns as the store's key."""
        ...

    def rows(self, view: FeatureView, schema: pa.Schema, features: Sequence[str]) -> StoredRows:
        """Return how a view's rows are read.

        Args:
            view: The view.
            schema: Its key columns and features with their types.
            features: The features asked for (``Ask.features``), for forms that find no others.

        Raises:
            StoreError: A feature has no type, or one that this form does not know.
        """
        ...


class Packed:
    """Rows as ``write`` packs them."""

    def key_encoder(self, columns: Sequence[KeyColumn]) -> Callable[[Sequence[Any]], bytes]:
        """Return the same for all columns: a value says its type; see ``StoredForm.key_encoder``."""
        del columns
        return encode_key

    def rows(self, view: FeatureView, schema: pa.Schema, features: Sequence[str]) -> PackedRows:
        """Return how a view's packed rows are read, which have all features; see ``StoredForm.rows``."""
        del features
        return PackedRows(view, schema)


class PackedRows:
    """A view's packed rows; see ``StoredRows``.

    Args:
        view: The view.
        schema: Its features with their types.

    Raises:
        StoreError: A feature has no type.
    """

    def __init__(self, view: FeatureView, schema: pa.Schema) -> None:
        self._codec = codec_of(view, schema)
        self.names = self._codec.names
        self.dtypes = self._codec.dtypes

    def absent(self, values: Sequence[bytes | None]) -> list[int]:
        """Return at which places nothing or a tombstone was found."""
        return [i for i, value in enumerate(values) if value is None or value[_KIND] == _TOMBSTONE]

    def block(self, rows: Sequence[bytes]) -> Block:
        """Decode rows; see ``RowCodec.decode``."""
        return self._codec.decode(rows)

    def times(self, rows: Sequence[bytes]) -> list[int]:
        """Return the times of the rows' versions."""
        if len(rows) < _MANY:
            return [int.from_bytes(row[:8], "big") - SIGN for row in rows]
        flipped = np.frombuffer(b"".join([row[:8] for row in rows]), ">u8")
        times: list[int] = (flipped.astype(np.uint64) ^ np.uint64(SIGN)).astype(np.int64).tolist()
        return times


_MANY = 8  # from how many rows on numpy is faster than a loop
_KIND = slice(KIND_AT, KIND_AT + 1)
_TOMBSTONE = bytes([Kind.TOMBSTONE])
