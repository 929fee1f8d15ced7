"""The online store that stock Feast wrote to Redis, for reading: a hash an entity, a field a feature of any view.

An ask's features say which fields; all views of an entity come with one HMGET, all keys in one round trip. Nothing is
ever written: Feast decides there which row stays, and its rows cannot carry what ours promise (versions, tombstones).
Keys and values are spelt as in ``online.feast_layout``; connections are those of ``RedisBackend``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from mlflow_core.online.backend import Ask, Found, Told
from mlflow_core.online.feast_layout.keys import fields_of
from mlflow_core.online.read_only import ReadOnly
from mlflow_core.online.redis.command import Command
from mlflow_core.online.redis.feast_address import parse_connection
from mlflow_core.online.redis.keys import TEMPLATES, Template
from mlflow_core.online.redis.refusals import check_installed

__all__ = ["FeastRedisBackend"]

_TIMEOUT_S = 5.0


class FeastRedisBackend(ReadOnly):
    """Feast's rows in Redis, read only; see ``online.backend.OnlineBackend``.

    Its rows are those of ``online.feast_layout.form.FeastForm``, which spells the keys it is asked for.

    Args:
        connection: Feast's ``connection_string``; see ``feast_address``.
        project: Whose rows these are.
        cluster: Whether it names nodes of a cluster.
        timeout_s: How long to wait for a connection, and for an answer; the connection string's by default.

    Raises:
        ConfigError: The connection string cannot be read, or the packages of the extra ``redis`` are missing.
        StoreError: On use: Redis is not there, refuses, or gives no answer in time (``StoreTimeout``).
    """

    def __init__(
        self, connection: str, project: str, *, cluster: bool = False, timeout_s: float | None = None
    ) -> None:
        check_installed()
        from mlflow_core.online.redis.connections import Connections

        self.project = project
        self.address, said = parse_connection(connection, cluster=cluster)
        super().__init__("Feast", self.address.shown)
        self.timeout_s = timeout_s or said or _TIMEOUT_S
        self._opened = (connection, project, cluster, timeout_s)
        self._suffix = project.encode()
        self._wanted: dict[tuple[object, ...], _Wanted] = {}
        self._connections = Connections(self.address, self.timeout_s)

    def __repr__(self) -> str:
        return f"FeastRedisBackend({self.address.shown!r}, {self.project!r})"

    def __reduce__(self) -> tuple[object, ...]:
        # A worker in another process opens its own connections.
        return (_reopened, self._opened)

    def read(self, asks: Sequence[Ask]) -> list[Found]:
        """Read keys of any entities and views in one round trip; see ``OnlineBackend.read``.

        Returns:
            For each key and view what ``FeastForm`` reads: the bytes of its event time, and of the features asked for.
        """
        wanted = [self._of(ask) for ask in asks]
        replies = self._connections.lists(lambda: _packed(asks, wanted), lambda: self._commands(asks, wanted))
        return _answered(asks, wanted, replies)

    async def read_async(self, asks: Sequence[Ask]) -> list[Found]:
        """Read on the event loop's one connection; in a cluster in a thread; see ``AsyncReads.read_async``."""
        if self._connections.cluster is not None:
            return await asyncio.to_thread(self.read, asks)
        wanted = [self._of(ask) for ask in asks]
        packed, count = _packed(asks, wanted)
        return _answered(
            asks, wanted, await self._connections.pipelined.fetch(packed, count) if count else []
        )

    @property
    def reads_soon(self) -> bool:
        """Whether this is one server: a cluster is read in threads."""
        return self._connections.cluster is None

    def read_soon(self, asks: Sequence[Ask], told: Told) -> bool:
        """Begin to read on the event loop's connection, if there is one; see ``SoonReads.read_soon``."""
        wanted = [self._of(ask) for ask in asks]
        return self._connections.lists_soon(*_packed(asks, wanted), partial(_answered, asks, wanted), told)

    def close(self) -> None:
        """Close the connections of this process."""
        self._connections.close()

    async def close_async(self) -> None:
        """Close the running event loop's connection."""
        await self._connections.pipelined.close_async()

    def _of(self, ask: Ask) -> _Wanted:
        asked = (ask.views, ask.features)
        wanted = self._wanted.get(asked)
        if wanted is None:
            if len(self._wanted) >= TEMPLATES:
                self._wanted.clear()
            wanted = self._wanted[asked] = _wanted(ask, self._suffix)
        return wanted

    def _commands(self, asks: Sequence[Ask], wanted: Sequence[_Wanted]) -> Iterator[Command]:
        for ask, one in zip(asks, wanted, strict=True):
            for key in ask.keys if one.fields else ():
                name = key + self._suffix
                yield Command(name, (b"HMGET", name, *one.fields))


def _reopened(connection: str, project: str, cluster: bool, timeout_s: float | None) -> FeastRedisBackend:
    return FeastRedisBackend(connection, project, cluster=cluster, timeout_s=timeout_s)


class _Wanted(NamedTuple):
    """What is read of each key of an ask: the fields of its hash, and which of them are each view's."""

    fields: tuple[bytes, ...]
    template: Template
    views: tuple[slice, ...]


def _wanted(ask: Ask, suffix: bytes) -> _Wanted:
    features = ask.features or ((),) * len(ask.views)
    by_view = [fields_of(view, names) for view, names in zip(ask.views, features, strict=True)]
    fields = tuple(field for of_view in by_view for field in of_view)
    ends = list(accumulate(map(len, by_view), initial=0))
    slices = tuple(slice(start, end) for start, end in pairwise(ends))
    return _Wanted(fields, Template(fields, suffix=suffix), slices)


def _packed(asks: Sequence[Ask], wanted: Sequence[_Wanted]) -> tuple[bytes, int]:
    parts, count = [], 0
    for ask, one in zip(asks, wanted, strict=True):
        if ask.keys and one.fields:
            parts.append(one.template.packed(ask.keys))
            count += len(ask.keys)
    return b"".join(parts), count


def _answered(asks: Sequence[Ask], wanted: Sequence[_Wanted], replies: Sequence[Any]) -> list[Found]:
    """Return the replies by ask, key and view."""
    found: list[Found] = []
    start = 0
    for ask, (fields, _, views) in zip(asks, wanted, strict=True):
        if not fields:
            found.append([()] * len(ask.keys))
            continue
        end = start + len(ask.keys)
        of_ask = replies[start:end]
        start = end
        if len(views) == 1:
            found.append([(reply,) for reply in of_ask])
        else:
            found.append([[reply[of_view] for of_view in views] for reply in of_ask])
    return found
