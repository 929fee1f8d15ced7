"""The writing verbs of an online store that somebody else writes: each refuses, and says who does."""
# ruff: noqa: ARG002 (a refusal uses nothing of what it is given)

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

from mlflow_core.errors import StoreError
from mlflow_core.online.backend import Ask, OnlineTable, Row

__all__ = ["ReadOnly"]


class ReadOnly:
    """Refuses to change anything; see ``online.backend.OnlineBackend`` for what the verbs would do.

    Args:
        writer: Who writes the store.
        place: Where it is.
    """

    def __init__(self, writer: str, place: str) -> None:
        self._writer = writer
        self._place = place

    def declare(self, table: OnlineTable, schema_hash: bytes) -> None:
        """Refuse; see ``write``."""
        self._refuse()

    def write(self, table: OnlineTable, rows: Sequence[Row]) -> int:
        """Refuse.

        Raises:
            StoreError: Always: this store is another's to write.
        """
        self._refuse()

    def erase(self, asks: Sequence[Ask], until: int | None = None) -> int:
        """Refuse; see ``write``."""
        self._refuse()

    def keys(self, table: OnlineTable) -> Iterator[bytes]:
        """Refuse: who wants all keys wants to change them; see ``write``."""
        self._refuse()

    def drop(self, views: Sequence[str] | None = None) -> None:
        """Refuse; see ``write``."""
        self._refuse()

    def begin(self, table: OnlineTable, boundary: int) -> None:
        """Refuse; see ``write``."""
        self._refuse()

    def finish(self, table: OnlineTable, boundary: int) -> None:
        """Refuse; see ``write``."""
        self._refuse()

    def unfinished(self) -> Mapping[str, int]:
        """Return nothing: this package begins nothing here."""
        return {}

    def _refuse(self) -> NoReturn:
        raise StoreError(
            f"is written by {self._writer}, and only read here", object="online store", place=self._place
        )
