"""What an online store must be able to do: six verbs over bytes, the same for SQLite, Redis and PostgreSQL.

A backend is opened for one project and never sees another's rows, though both may live in one file or server.
It keeps one value for each (view, key), and only ever replaces it by a greater version, decided inside the
store in the same statement that writes. A version is (time, sequence): boundary or event time in microseconds
since epoch, UTC, and the created time or correction sequence.

Definitions. Each value carries the hash of the schema it was packed with. A backend remembers for every view
which schemas it has seen, in order; the newest is the current one. Writing a schema not seen before, or
``declare``, makes it the newest. A row of the current schema replaces a row of an older one whatever their
versions are, since the old row can no longer be read; a writer that still has an older schema (a late worker of
the previous definition) is refused. Tombstones have no schema and yield only to greater versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from mlflow_core.online.codec import is_tombstone

__all__ = ["LAST_SEQUENCE", "OnlineBackend", "StoredRow"]

LAST_SEQUENCE = 2**63 - 1


class StoredRow(NamedTuple):
    """One value under its key.

    Attributes:
        key: Canonical bytes of the entity's key values (``keys.encode_key``).
        time: Boundary or event time, int64 microseconds since epoch, UTC.
        sequence: Orders versions of one time: created time in microseconds, or 0.
        value: What ``RowCodec.encode`` wrote, or a tombstone.
    """

    key: bytes
    time: int
    sequence: int
    value: bytes

    @property
    def version(self) -> tuple[int, int]:
        """(time, sequence); the greater one wins."""
        return self.time, self.sequence

    @property
    def erased(self) -> bool:
        """Whether this marks an erased key."""
        return is_tombstone(self.value)


class OnlineBackend(Protocol):
    """An online store, opened for one project. Usable from several threads; every error is a ``StoreError``."""

    def declare(self, view: str, schema_hash: bytes) -> None:
        """Make a schema the current one of a view.

        Args:
            view: The view's name.
            schema_hash: ``RowCodec.schema_hash``, 8 bytes.
        """
        ...

    def write(self, view: str, rows: Sequence[StoredRow]) -> int:
        """Write rows of one view, all or none of them.

        Args:
            view: The view's name.
            rows: Rows of one schema in any order; of two with one key the greater version counts.

        Returns:
            How many stored rows changed: a version that is not greater changes nothing.

        Raises:
            StoreError: The schema is no longer the view's current one, or the store cannot be written; what
                was there is as it was.
        """
        ...

    def read(self, requests: Sequence[tuple[str, Sequence[bytes]]]) -> list[list[StoredRow | None]]:
        """Read keys of several views in one round trip, all as of one moment.

        Args:
            requests: Pairs of a view's name and keys; keys may repeat.

        Returns:
            For each request its rows in the order of its keys, None for a key never written. An erased key
            comes back as the row of its tombstone.
        """
        ...

    def erase(self, keys: Sequence[tuple[str, Sequence[bytes]]]) -> int:
        """Erase keys and leave tombstones that beat every version up to now, by the backend's clock.

        Args:
            keys: Pairs of a view's name and keys, as for ``read``.

        Returns:
            How many of the keys had a value.
        """
        ...

    def drop(self, views: Sequence[str] | None = None) -> None:
        """Remove views of this project with all their rows; all of the project's without an argument."""
        ...

    def close(self) -> None:
        """Release connections; the backend is not used afterwards."""
        ...
