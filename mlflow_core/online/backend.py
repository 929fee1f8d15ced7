"""What an online store must be able to do, over bytes: the same verbs for SQLite, Redis and PostgreSQL.

A backend is opened for one project and never sees another's rows, though both may live in one file or server.
It keeps one value for each (view, key). A value begins with its version (``head.version_of``), written so that
versions compare as bytes do; a backend only ever replaces a value by one of a greater version, decided inside the
store in the same step that writes. So replays, retries and late workers are harmless.

Definitions. Each value carries the hash of the schema it was packed with. A backend remembers for every view
which schemas it has seen, in order; the newest is the current one. Writing a schema not seen before, or
``declare``, makes it the newest. A value of the current schema replaces a value of an older one whatever their
versions are, since the old one can no longer be read; a writer that still has an older schema (a late worker of
the previous definition) is refused. Tombstones have no schema and yield only to greater versions.

Materialisations. ``begin`` notes that a view is being brought to a boundary, ``finish`` that it is there. What has
begun and has not finished is half new, and ``unfinished`` says so to whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from mlflow_core.errors import StoreError
from mlflow_core.online.rows import Row

__all__ = [
    "LAST_SEQUENCE",
    "Ask",
    "AsyncReads",
    "Found",
    "OnlineBackend",
    "OnlineTable",
    "Row",
    "SoonReads",
    "Told",
]

LAST_SEQUENCE = 2**63 - 1

Found: TypeAlias = Sequence[Sequence[bytes | None]]
"""What an ``Ask`` found: for each of its keys, in order, the values of its views; None for one never written."""

Told: TypeAlias = Callable[["list[Found] | StoreError"], None]
"""Is called once, with what was found for each of the asks, or with why nothing was; it raises nothing."""


class OnlineTable(NamedTuple):
    """Where a view's rows are.

    Attributes:
        view: The view's name.
        keys: Its key columns, in the entity's order; views of the same key columns share an entity's place.
    """

    view: str
    keys: tuple[str, ...]


class Ask(NamedTuple):
    """Keys of one entity, and the views wanted of them.

    Attributes:
        entity: The key columns that all of the views have, in order.
        views: The views' names.
        keys: Canonical key bytes; they may repeat.
        features: For each of the views the features wanted, for stores that keep features apart.
    """

    entity: tuple[str, ...]
    views: tuple[str, ...]
    keys: Sequence[bytes]
    features: tuple[tuple[str, ...], ...] = ()


class OnlineBackend(Protocol):
    """An online store, opened for one project. Usable from several threads; every error is a ``StoreError``.

    Pickling a backend gives one that opens its own connections where it is unpickled.
    """

    def declare(self, table: OnlineTable, schema_hash: bytes) -> None:
        """Make a schema the current one of a view.

        Args:
            table: The view.
            schema_hash: ``RowCodec.schema_hash``, 8 bytes.
        """
        ...

    def write(self, table: OnlineTable, rows: Sequence[Row]) -> int:
        """Write rows of one view; each is decided for itself.

        Args:
            table: The view.
            rows: Rows of one schema in any order; of two with one key the greater version counts, of two with one
                version the later row.

        Returns:
            How many stored rows changed: a version that is not greater changes nothing.

        Raises:
            StoreError: The schema is no longer the view's current one: nothing was changed. Or the store cannot be
                written: a part of the rows may be there, and writing all of them again is harmless.
        """
        ...

    def read(self, asks: Sequence[Ask]) -> list[Found]:
        """Read keys of any entities and views in one round trip.

        Args:
            asks: What is wanted; an ask may have no keys.

        Returns:
            What was found, in the order of the asks. An erased key comes back as its tombstone.
        """
        ...

    def erase(self, asks: Sequence[Ask], until: int | None = None) -> int:
        """Erase keys and leave tombstones.

        Args:
            asks: Keys of one entity and the views to erase them from, also where they have never been written.
            until: Erase versions of times up to this, microseconds since epoch, UTC, and leave alone what is later.
                By default every value is erased, and the tombstone beats every version up to now, by the backend's
                clock, and the one that was there.

        Returns:
            From how many (view, key) a value was taken away.
        """
        ...

    def keys(self, table: OnlineTable) -> Iterator[bytes]:
        """Go through the keys that are stored for a view, those of tombstones too.

        Args:
            table: The view.

        Yields:
            Keys in no order; one may come more than once, and one written meanwhile may not come.
        """
        ...

    def drop(self, views: Sequence[str] | None = None) -> None:
        """Remove views of this project with all their rows; all of the project's without an argument."""
        ...

    def begin(self, table: OnlineTable, boundary: int) -> None:
        """Note that a view is being brought to a boundary; of several the latest counts until it is finished.

        Args:
            table: The view.
            boundary: Microseconds since epoch, UTC.
        """
        ...

    def finish(self, table: OnlineTable, boundary: int) -> None:
        """Note that a view has reached a boundary; clears what ``begin`` noted for it, or for an earlier one."""
        ...

    def unfinished(self) -> Mapping[str, int]:
        """Return the boundary of every view whose materialisation has begun and not finished, by view name."""
        ...

    def close(self) -> None:
        """Release connections; the backend is not used afterwards."""
        ...


@runtime_checkable
class AsyncReads(Protocol):
    """A backend that reads without blocking the event loop; others are read in threads."""

    async def read_async(self, asks: Sequence[Ask]) -> list[Found]:
        """Read as ``OnlineBackend.read`` does; many reads at once share a connection.

        Raises:
            StoreError: The store cannot be read, or gave no answer in time.
        """
        ...

    async def close_async(self) -> None:
        """Release the connections of the running event loop."""
        ...


@runtime_checkable
class SoonReads(AsyncReads, Protocol):
    """A backend that also tells what it has read as soon as it is there, with no task or future in between."""

    @property
    def reads_soon(self) -> bool:
        """Whether it can as it was opened; if not, ``read_soon`` never begins."""
        ...

    def read_soon(self, asks: Sequence[Ask], told: Told) -> bool:
        """Begin to read as ``AsyncReads.read_async`` does; on the running event loop.

        Args:
            asks: What is wanted.
            told: Is called later, on the same loop, and never before this returns.

        Returns:
            Whether it has begun. It has not where something has to be awaited first (a connection) or nothing is
            to be read: that is for ``read_async``, and ``told`` is not called.
        """
        ...
