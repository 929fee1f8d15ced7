"""Reads of the online store on the request path: without blocking where the store can, else in threads; timed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter

from mlflow_core.errors import StoreError, StoreTimeout
from mlflow_core.online.answer import Answer
from mlflow_core.online.backend import Ask, AsyncReads, Found, OnlineBackend, SoonReads, Told
from mlflow_core.online.reader import Asked, Reader
from mlflow_core.serve.deadline import Deadline, Place
from mlflow_core.serve.metrics import Metrics
from mlflow_core.serve.threads import Threads

__all__ = ["StoreReads"]


class StoreReads:
    """Answers checked columns from the online store.

    Args:
        store: The online store.
        threads: Where a store that blocks is read, and on-demand functions run.
        metrics: Where reads are counted.

    Attributes:
        soon: Whether ``read_soon`` can ever begin.
    """

    def __init__(self, store: OnlineBackend, threads: Threads, metrics: Metrics) -> None:
        self._store = store
        self._async = store if isinstance(store, AsyncReads) else None
        self._soon = store if isinstance(store, SoonReads) and store.reads_soon else None
        self.soon = self._soon is not None
        self._threads = threads
        self._deadline = Deadline(threads.deadline_s)
        self._metrics = metrics

    async def answer(
        self, reader: Reader, asked: Asked, found: Sequence[Found], *, now_us: int, times: bool
    ) -> Answer:
        """Make the answer of what was read, in a thread: on-demand functions take as long as they take.

        Args:
            reader: What is asked.
            asked: What its ``ask`` said to read.
            found: What the store found.
            now_us: When TTL counts, microseconds since epoch, UTC.
            times: Whether the values' times are wanted.

        Raises:
            StoreError: The store holds rows of another definition.
            TimeoutError: On-demand functions did not end in time.
        """

        def computed() -> Answer:
            return reader.answer_of(asked, found, now_us=now_us, times=times)

        return await self._threads.run(computed)

    async def close(self) -> None:
        """Close the event loop's connections."""
        if self._async is not None:
            await self._async.close_async()

    async def read(self, asks: Sequence[Ask]) -> list[Found]:
        """Read the store once.

        Raises:
            StoreTimeout: The store did not answer in time.
            StoreError: The store cannot be read.
        """
        started = perf_counter()
        try:
            if self._async is not None:
                # A store's own timeouts are for each of its steps: to connect, to wait for a connection, to answer.
                found = await self._deadline.wait(self._async.read_async(asks))
            else:
                found = await self._threads.run(self._store.read, asks)
        except TimeoutError:
            self._metrics.store_failed()
            raise _too_late() from None
        except StoreError:
            self._metrics.store_failed()
            raise
        self._metrics.store_read(perf_counter() - started)
        return found

    def read_soon(self, loop: asyncio.AbstractEventLoop, asks: Sequence[Ask], told: Told) -> bool:
        """Begin to read the store once; see ``SoonReads.read_soon``.

        Args:
            loop: The running event loop.
            asks: What is wanted.
            told: Gets what was found, or a ``StoreTimeout`` where the store did not answer in time.
        """
        if self._soon is None:
            return False
        reading = _Reading(told, self._metrics)
        if not self._soon.read_soon(asks, reading.arrived):
            return False
        reading.place = self._deadline.taken(loop, reading.late)
        return True


class _Reading:
    """One read that somebody is told of: what was found, or that it took too long, whichever is first."""

    __slots__ = ("metrics", "place", "started", "told")

    def __init__(self, told: Told, metrics: Metrics) -> None:
        self.told = told
        self.metrics = metrics
        self.started = perf_counter()
        self.place: Place | None = None

    def arrived(self, found: list[Found] | StoreError) -> None:
        place = self.place
        if place is None or place.expired:
            return
        place.late = None
        if isinstance(found, StoreError):
            self.metrics.store_failed()
        else:
            self.metrics.store_read(perf_counter() - self.started)
        self.told(found)

    def late(self) -> None:
        self.metrics.store_failed()
        self.told(_too_late())


def _too_late() -> StoreTimeout:
    return StoreTimeout("the online store gave no answer in time")
