"""The online store in a PostgreSQL server, for several processes and several projects.

A read of any number of views and keys is one statement. A write is one transaction: all rows, or none. Whoever
writes to a view shares its lock, and whoever changes its definition or drops it has the lock alone, so that nothing
slips between the look at the definition and the rows. What ``backend`` promises is kept by the statements; what the
server's errors mean is in ``reasons``.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar

import psycopg

from mlflow_core.config.clock import Clock, SystemClock
from mlflow_core.errors import StoreError
from mlflow_core.online.backend import LAST_SEQUENCE, Ask, Found, OnlineTable
from mlflow_core.online.head import tombstone
from mlflow_core.online.postgres.loop_pool import LoopPool
from mlflow_core.online.postgres.pool import Connected, Pool, place_of
from mlflow_core.online.postgres.reasons import explained, is_conflict, is_loss
from mlflow_core.online.postgres.schema import prepare_schema
from mlflow_core.online.postgres.statements import Blobs, Slots, Statements, Texts, chunks, register_arrays
from mlflow_core.online.rows import Row, one_schema

__all__ = ["PostgresBackend"]

_T = TypeVar("_T")
_ATTEMPTS = 6  # of a transaction that others' transactions ended
_KEYS_AT_ONCE = 10_000
_ROWS_CLEARED = 20_000  # at once, of a view that has been dropped


class PostgresBackend:
    """An online store in PostgreSQL.

    Args:
        url: ``postgresql://user:password@host:port/database``, or what else libpq reads.
        project: Whose rows these are.
        clock: Says when a key was erased.
        timeout_s: How long to wait for an answer, a connection, or another process's lock.
        connections: How many connections a process opens at most for its threads, and as many for each event loop.
        schema: The PostgreSQL schema with our tables; made when it is not there.

    Raises:
        StoreError: The URL or the schema's name cannot be one. On first use: the server cannot be reached or used,
            or its tables are of another layout.

    Example:
        >>> store = PostgresBackend("postgresql://app:secret@db.internal/features", "flights")
        >>> store
        PostgresBackend('postgresql://app@db.internal/features', 'flights')
    """

    def __init__(
        self,
        url: str,
        project: str,
        clock: Clock | None = None,
        *,
        timeout_s: float = 10.0,
        connections: int = 8,
        schema: str = "mlcore_online",
    ) -> None:
        self.project = project
        self.clock = clock or SystemClock()
        self.timeout_s = timeout_s
        self.connections = connections
        self.schema = schema
        self._url = url.replace("postgresql+psycopg://", "postgresql://", 1)
        self.place = place_of(self._url)
        if not re.fullmatch("[a-z_][a-z0-9_]{0,62}", schema):
            raise StoreError(
                f'"{schema}" cannot be the schema of an online store',
                place=self.place,
                expected="small letters, digits and underscores, at most 63",
            )
        self._say = Statements(schema)
        self._pools: dict[int, Pool] = {}
        self._loops: dict[tuple[int, asyncio.AbstractEventLoop], LoopPool] = {}

    def __repr__(self) -> str:
        return f"PostgresBackend({self.place!r}, {self.project!r})"

    def __reduce__(self) -> tuple[object, ...]:
        # A worker in another process opens its own connections.
        options = (self.timeout_s, self.connections, self.schema)
        return _reopened, (self._url, self.project, self.clock, *options)

    def declare(self, table: OnlineTable, schema_hash: bytes) -> None:
        """Make a schema the current one of a view; see ``OnlineBackend.declare``."""
        self._done(lambda connection: self._define(connection, table, schema_hash, declared=True))

    def write(self, table: OnlineTable, rows: Sequence[Row]) -> int:
        """Write rows of one view in one transaction; see ``OnlineBackend.write``."""
        if not rows:
            return 0
        schema = one_schema(rows, table.view)
        parts = list(chunks(rows))
        while True:
            changed = self._done(lambda connection: self._upsert(connection, table, schema, parts))
            if changed is not None:
                return changed
            self._done(lambda connection: self._define(connection, table, schema, declared=False))

    def read(self, asks: Sequence[Ask]) -> list[Found]:
        """Read keys of several entities and views in one statement; see ``OnlineBackend.read``."""
        slots = Slots(asks)
        if not slots.count:
            return slots.filled([])
        parameters = slots.parameters(self.project)

        def read(connection: Connected) -> list[Found]:
            with connection.cursor(binary=True) as cursor:
                return slots.filled(cursor.execute(self._say.read, parameters, prepare=True).fetchall())

        return self._done(read, again_if_lost=True)

    async def read_async(self, asks: Sequence[Ask]) -> list[Found]:
        """Read on connections of the running event loop; see ``AsyncReads.read_async``."""
        slots = Slots(asks)
        if not slots.count:
            return slots.filled([])
        parameters, again = slots.parameters(self.project), True
        while True:
            try:
                return slots.filled(await self._loop_pool().fetch(self._say.read, parameters))
            except psycopg.Error as error:
                if not (again and is_loss(error)):
                    raise explained(error, self.place) from error
                again = False

    def erase(self, asks: Sequence[Ask], until: int | None = None) -> int:
        """Erase keys and leave tombstones; see ``OnlineBackend.erase``."""
        buried = tombstone(self.clock.now_us() if until is None else until, LAST_SEQUENCE)
        asks = [ask for ask in asks if ask.views and ask.keys]
        views = sorted({view for ask in asks for view in ask.views})

        def erase(connection: Connected) -> int:
            had = 0
            with connection.transaction():
                self._lock(connection, views, alone=False)
                connection.execute(self._say.name_views, (self.project, Texts(views), self.project))
                for ask in asks:
                    keys, names = Blobs(sorted(set(ask.keys))), Texts(ask.views)
                    connection.execute(self._say.bury_unknown, (buried, keys, self.project, names))
                    which = (keys, self.project, names, until is None, buried)
                    found = connection.execute(self._say.bury, (*which, buried))
                    had += sum(was_value for (was_value,) in found)
            return had

        return self._done(erase) if asks else 0

    def keys(self, table: OnlineTable) -> Iterator[bytes]:
        """Go through the keys that are stored for a view, some at a time; see ``OnlineBackend.keys``."""
        statement, last = self._say.keys_from, b""
        while True:
            some = partial(_fetched, statement, (self.project, table.view, last, _KEYS_AT_ONCE))
            found = self._done(some, again_if_lost=True)
            yield from (bytes(key) for (key,) in found)
            if len(found) < _KEYS_AT_ONCE:
                return
            statement, last = self._say.keys_after, found[-1][0]

    def drop(self, views: Sequence[str] | None = None) -> None:
        """Remove views of this project and nothing else; see ``OnlineBackend.drop``.

        They are gone at once; their rows are then removed some at a time, and those that a process which was killed
        left behind are removed by the next one that drops.
        """

        def unlist(connection: Connected) -> None:
            with connection.transaction():
                known = [name for (name,) in connection.execute(self._say.views, (self.project,))]
                names = [name for name in known if views is None or name in views]
                self._lock(connection, names, alone=True)
                connection.execute(self._say.unlist, (self.project, Texts(names)))

        self._done(unlist)
        while self._done(self._clear_some) == _ROWS_CLEARED:
            pass
        self._done(lambda connection: connection.execute(self._say.forget_cleared))

    def begin(self, table: OnlineTable, boundary: int) -> None:
        """Note that a view is being brought to a boundary; see ``OnlineBackend.begin``."""
        mark = (self.project, table.view, boundary)
        self._done(lambda connection: connection.execute(self._say.begin, mark))

    def finish(self, table: OnlineTable, boundary: int) -> None:
        """Note that a view has reached a boundary; see ``OnlineBackend.finish``."""
        mark = (self.project, table.view, boundary)
        self._done(lambda connection: connection.execute(self._say.finish, mark))

    def unfinished(self) -> dict[str, int]:
        """Return what has begun and not finished; see ``OnlineBackend.unfinished``."""
        return self._done(
            lambda connection: dict(connection.execute(self._say.unfinished, (self.project,)).fetchall()),
            again_if_lost=True,
        )

    def close(self) -> None:
        """Close the connections that this process opened, those of event loops too."""
        self._end_loops(None)
        pool = self._pools.pop(os.getpid(), None)
        if pool is not None:
            pool.close()

    async def close_async(self) -> None:
        """Close the connections of the running event loop; see ``AsyncReads.close_async``."""
        running = asyncio.get_running_loop()
        self._end_loops(lambda loop: loop is running)

    def _upsert(
        self, connection: Connected, table: OnlineTable, schema: bytes, parts: Sequence[tuple[Blobs, Blobs]]
    ) -> int | None:
        """Return how many rows changed, or None if the schema is not the view's current one."""
        at = (self.project, table.view)
        # What fits one statement goes and is answered in one round trip, with the transaction around it.
        together = connection.pipeline() if len(parts) == 1 else nullcontext()
        with together, connection.transaction():
            self._lock(connection, [table.view], alone=False)
            current = connection.execute(self._say.current, at, prepare=True)
            if len(parts) > 1 and current.fetchone() != (schema,):
                return None
            done = [
                connection.execute(self._say.upsert, (keys, values, *at, schema), prepare=True)
                for keys, values in parts
            ]
        if len(parts) == 1 and current.fetchone() != (schema,):
            return None
        return sum(one.rowcount for one in done)

    def _define(self, connection: Connected, table: OnlineTable, schema: bytes, *, declared: bool) -> None:
        """Make a schema the current one; only one that is new, unless somebody declares it."""
        at = (self.project, table.view)
        with connection.transaction():
            self._lock(connection, [table.view], alone=True)
            known = connection.execute(self._say.seen, (schema, *at)).fetchone()
            if known is not None and known[0] == schema:
                return
            if known is not None and known[1] and not declared:
                raise StoreError(
                    f"its rows were packed by a definition that has been replaced (schema {schema.hex()})",
                    object=f'view "{table.view}"',
                    place=self.place,
                    expected=f"schema {known[0].hex()}",
                    hint="Apply the repository and materialise the view again.",
                )
            connection.execute(self._say.define, (*at, schema, schema))

    def _clear_some(self, connection: Connected) -> int:
        return connection.execute(self._say.clear_some, (_ROWS_CLEARED,)).rowcount

    def _lock(self, connection: Connected, views: Sequence[str], *, alone: bool) -> None:
        """Hold the locks of views until the transaction ends; always taken in the same order."""
        for number in sorted(_lock_number(self.schema, self.project, view) for view in views):
            connection.execute(_LOCK_ALONE if alone else _LOCK_SHARED, (number,), prepare=True)

    def _done(self, work: Callable[[Connected], _T], *, again_if_lost: bool = False) -> _T:
        """Do something on a connection; again where others' transactions ended it, or the connection was lost."""
        attempt = 0
        while True:
            attempt += 1
            try:
                with self._pool().connection() as connection:
                    return work(connection)
            except psycopg.Error as error:
                lost = again_if_lost and attempt == 1 and is_loss(error)
                if not lost and not (is_conflict(error) and attempt < _ATTEMPTS):
                    raise explained(error, self.place) from error
                if not lost:
                    # Writers that met once should not meet again.
                    time.sleep(random.uniform(0, 0.01 * 2**attempt))

    def _pool(self) -> Pool:
        # One from before a fork belongs to the parent: it stays here unused, since closing it would end the parent's.
        process = os.getpid()
        pool = self._pools.get(process)
        if pool is None:
            pool = self._pools.setdefault(
                process, Pool(self._url, self.connections, self.timeout_s, self._prepare)
            )
        return pool

    def _loop_pool(self) -> LoopPool:
        mine = os.getpid(), asyncio.get_running_loop()
        pool = self._loops.get(mine)
        if pool is None:
            self._end_loops(lambda loop: loop.is_closed())
            pool = LoopPool(self._url, self.connections, self.timeout_s, self._look)
            self._loops[mine] = pool
        return pool

    def _end_loops(self, which: Callable[[asyncio.AbstractEventLoop], bool] | None) -> None:
        """Close the connections of some event loops of this process, or of all."""
        for process, loop in list(self._loops):
            if process == os.getpid() and (which is None or which(loop)):
                pool = self._loops.pop((process, loop), None)
                if pool is not None:  # else another thread was faster
                    pool.close()

    def _look(self) -> None:
        self._done(lambda connection: prepare_schema(connection, self.schema, self.place))

    def _prepare(self, connection: Connected) -> None:
        register_arrays(connection)
        prepare_schema(connection, self.schema, self.place)


def _fetched(statement: Any, parameters: tuple[object, ...], connection: Connected) -> list[Any]:
    return connection.execute(statement, parameters).fetchall()


_LOCK_SHARED = "SELECT pg_advisory_xact_lock_shared(%s::bigint)"
_LOCK_ALONE = "SELECT pg_advisory_xact_lock(%s::bigint)"


def _lock_number(*names: str) -> int:
    digest = hashlib.blake2b("\0".join(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _reopened(
    url: str, project: str, clock: Clock, timeout_s: float, connections: int, schema: str
) -> PostgresBackend:
    return PostgresBackend(url, project, clock, timeout_s=timeout_s, connections=connections, schema=schema)
