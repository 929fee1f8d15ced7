"""Connections to PostgreSQL for one event loop, for reads only: as ``pool`` has them for threads.

A read that is cancelled, or that the server leaves without an answer, costs its connection: what is still to come on
it would be taken for the answer to the next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.waiting import wait_async

from mlflow_core.errors import StoreTimeout
from mlflow_core.online.postgres.pool import (
    SETTLE,
    connect_options,
    patience_s,
    place_of,
    readable,
    settings,
)
from mlflow_core.online.postgres.reasons import Silence
from mlflow_core.online.postgres.statements import register_arrays

__all__ = ["LoopPool"]

_T = TypeVar("_T")


class LoopPool:
    """Connections that are lent to one coroutine at a time.

    Args:
        url: ``postgresql://user:password@host:port/database``, or what else libpq reads.
        size: How many connections there are at most.
        timeout_s: How long a statement, a connection, or a free one of these may take.
        look: Is called in a thread before a connection is opened; it raises where the tables cannot be used.
    """

    def __init__(self, url: str, size: int, timeout_s: float, look: Callable[[], None]) -> None:
        self._url = url
        self._size = size
        self._timeout_s = timeout_s
        self._look = look
        self._free = asyncio.Semaphore(size)
        self._idle: deque[_Connection] = deque()
        self._closed = False

    async def fetch(self, statement: bytes, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, in psycopg's binary form.

        Raises:
            StoreTimeout: All connections are busy.
            StoreError: The tables cannot be used.
            psycopg.Error: The server refused, was lost, or gave no answer in time.
        """
        async with self._connection() as connection:
            cursor = connection.cursor(binary=True)
            await cursor.execute(statement, parameters, prepare=True)
            return await cursor.fetchall()

    def close(self) -> None:
        """Close the connections; one that is lent is closed when it comes back."""
        self._closed = True
        while self._idle:
            self._idle.pop().end()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Connection]:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._free.acquire()
        except TimeoutError:
            raise StoreTimeout(
                f"all {self._size} connections are busy",
                place=place_of(self._url),
                hint="Allow more connections or more time, or ask less at once.",
            ) from None
        try:
            lent = self._taken() or await self._opened()
            try:
                yield lent
            finally:
                if lent.info.transaction_status is TransactionStatus.IDLE and not self._closed:
                    self._idle.append(lent)
                else:
                    lent.end()
        finally:
            self._free.release()

    def _taken(self) -> _Connection | None:
        while self._idle:
            idle = self._idle.pop()
            if not idle.closed and not readable(idle.fileno()):
                return idle
            idle.end()
        return None

    async def _opened(self) -> _Connection:
        await asyncio.to_thread(self._look)
        options = connect_options(self._url, self._timeout_s)
        made = await _Connection.connect(self._url, autocommit=True, **options)
        made.patience_s = patience_s(self._timeout_s)
        try:
            register_arrays(made)
            await made.execute(SETTLE, settings(self._timeout_s))
        except BaseException:
            made.end()
            raise
        return made


class _Connection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A connection that gives up a server which says nothing, and an answer which nobody waits for."""

    patience_s: float | None = None

    def end(self) -> None:
        """Close it, where nothing can be awaited too."""
        self.pgconn.finish()

    async def wait(self, gen: PQGen[_T], *_: Any, **__: Any) -> _T:
        """Drive one exchange with the server, as psycopg asks, but not for ever.

        Raises:
            Silence: There was no answer within ``patience_s``.
        """
        try:
            async with asyncio.timeout(self.patience_s):
                return await wait_async(gen, self.fileno())
        except TimeoutError:
            self.pgconn.finish()
            raise Silence(f"no answer within {self.patience_s:g} s") from None
        except asyncio.CancelledError:
            # psycopg would ask the server to stop, and wait for its word: whoever cancels has no time for that.
            self.pgconn.finish()
            raise
