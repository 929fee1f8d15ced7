"""One connection for each event loop, which all reads of the loop share: the server's way to Redis.

What is asked in one turn of the loop leaves in one write, and the replies, which come in the order of the commands,
are handed out first in, first out: to a future, or to a function at once. A reader that is cancelled leaves its place
in the queue, so that its replies are not taken for the next one's. Deadlines are watched by one timer for all: when the
oldest read is overdue the connection is given up with everything that waits on it, and a fresh one is opened for the
next read.
"""

from __future__ import annotations

import asyncio
import copy
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, cast

import hiredis

from mlflow_core.errors import StoreError
from mlflow_core.online.redis.address import Address
from mlflow_core.online.redis.command import packed
from mlflow_core.online.redis.refusals import lost, refused, timed_out, unreachable

__all__ = ["Pipelined"]

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0  # after a failed attempt to connect
_SWEEPS = 8  # a timeout is noticed at most an eighth of it late

_Replies: TypeAlias = "list[Any] | StoreError"
_Waiting: TypeAlias = tuple[Callable[[_Replies], None], int, list[Any], float]


class Pipelined:
    """The connections of all event loops to one server.

    Args:
        address: The server.
        timeout_s: How long to wait for a connection, and for an answer.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self._local = threading.local()
        self._lock = threading.Lock()
        self._lines: list[_Line] = []
        self._process = os.getpid()

    async def fetch(self, packed: bytes, replies: int) -> list[Any]:
        """Send commands, packed together, and return their replies.

        Args:
            packed: The commands as they are sent.
            replies: How many replies they get, at least one.

        Raises:
            StoreError: One of the replies is an error, the connection was lost or there is none.
            StoreTimeout: The answer did not come in time.
        """
        line = self.line()
        wire = line.wire or await line.opened()
        return await wire.send(packed, replies)

    def fetch_soon(self, packed: bytes, replies: int, told: Callable[[list[Any] | StoreError], None]) -> bool:
        """Send commands as ``fetch`` does, and hand over their replies as they come in.

        Args:
            packed: The commands as they are sent.
            replies: How many replies they get, at least one.
            told: Gets the replies, or why there are none; it must not raise.

        Returns:
            Whether they are sent; they are not where there is no connection yet.
        """
        wire = self.line().wire
        if wire is None:
            return False
        wire.ask(packed, replies, told)
        return True

    def line(self) -> _Line:
        """Return the running loop's place."""
        loop = asyncio.get_running_loop()
        mine: _Line | None = getattr(self._local, "line", None)
        if mine is None or mine.loop is not loop:
            mine = self._local.line = _Line(loop, self.address, self.timeout_s)
            with self._lock:
                self._lines = [line for line in self._lines if not line.loop.is_closed()] + [mine]
        return mine

    async def close_async(self) -> None:
        """Close the running loop's connection; what waits on it fails."""
        line = self.line()
        del self._local.line
        with self._lock:
            self._lines = [other for other in self._lines if other is not line]
        await line.close()

    def close(self) -> None:
        """Close the connections of all loops that are still running."""
        with self._lock:
            lines, self._lines = self._lines, []
        if self._process != os.getpid():
            return  # they are the parent's, and their loops run there
        for line in lines:
            with suppress(RuntimeError):  # the loop was closed, and its connections with it
                line.loop.call_soon_threadsafe(line.abort)


class _Line:
    """One event loop's connection, through losses and reconnections."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: Address, timeout_s: float) -> None:
        self.loop = loop
        self.wire: _Wire | None = None
        self._address = address
        self._timeout_s = timeout_s
        self._opening: asyncio.Task[_Wire] | None = None
        self._last: _Wire | None = None
        self._failure: StoreError | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._not_before = 0.0

    async def opened(self) -> _Wire:
        """Return a connection; all who wait for one share a single attempt, and a failed one is not repeated at once."""
        if self._opening is None:
            if self._failure is not None and self.loop.time() < self._not_before:
                raise copy.copy(self._failure)
            self._opening = self.loop.create_task(self._open())
            self._opening.add_done_callback(self._attempted)
        opening = self._opening
        try:
            # Whoever is cancelled while waiting leaves the attempt to the others.
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            if opening.cancelled():
                raise lost(self._address, "this store was closed") from None
            raise

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
        self.abort()
        if self._last is not None:
            await self._last.ended

    def abort(self) -> None:
        if self.wire is not None:
            self.wire.give_up(lost(self._address, "this store was closed"))

    async def _open(self) -> _Wire:
        wire = _Wire(self.loop, self._address, self._timeout_s, self._ended)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._connect(wire)
                self._last = wire
                # A server that loads its data, or turns connections away, has not been reached.
                for command in (*self._address.greetings(), (b"PING",)):
                    await wire.send(packed(command), 1)
        except BaseException as error:
            wire.give_up(lost(self._address))
            if isinstance(error, OSError):
                raise unreachable(error, self._address) from error
            raise
        self.wire = wire
        return wire

    async def _connect(self, wire: _Wire) -> None:
        if self._address.path is not None:
            await self.loop.create_unix_connection(lambda: wire, self._address.path)
            return
        host, port = self._address.hosts[0]
        if self._address.tls is None:
            await self.loop.create_connection(lambda: wire, host, port)
        else:
            context = self._address.tls.context()
            await self.loop.create_connection(lambda: wire, host, port, ssl=context, server_hostname=host)

    def _attempted(self, attempt: asyncio.Task[_Wire]) -> None:
        self._opening = None
        if attempt.cancelled():
            return
        error = attempt.exception()
        if error is None:
            self._failure, self._pause_s = None, _FIRST_PAUSE_S
        elif isinstance(error, StoreError):
            self._failure = error
            self._not_before = self.loop.time() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _ended(self, wire: _Wire) -> None:
        if self.wire is wire:
            self.wire = None


class _Wire(asyncio.Protocol):
    """One connection and who waits on it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: Address,
        timeout_s: float,
        on_end: Callable[[_Wire], None],
    ) -> None:
        self._loop = loop
        self._address = address
        self._timeout_s = timeout_s
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self.failure: StoreError | None = None
        self._waiting: deque[_Waiting] = deque()
        self._out: list[bytes] = []
        self._swept = False
        self._refused = False
        self._reader: Any = hiredis.Reader(replyError=self._refusal)
        self.ended: asyncio.Future[None] = loop.create_future()

    def send(self, packed: bytes, replies: int) -> asyncio.Future[list[Any]]:
        """Queue commands; the future gets their replies, or a ``StoreError``."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if self.failure is not None:
            future.set_exception(copy.copy(self.failure))
        else:
            self.ask(packed, replies, partial(_settle, future))
        return future

    def ask(self, packed: bytes, replies: int, told: Callable[[_Replies], None]) -> None:
        """Queue commands on a connection that has not ended."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(packed)
        self._waiting.append((told, replies, [], self._loop.time()))
        if not self._swept:
            self._swept = True
            self._loop.call_later(self._timeout_s / _SWEEPS, self._sweep)

    def give_up(self, error: StoreError) -> None:
        """End the connection; whoever waits gets the error."""
        if self.failure is not None:
            return
        self.failure = error
        self._on_end(self)
        self._out.clear()
        waiting = self._waiting
        while waiting:
            waiting.popleft()[0](copy.copy(error))
        if self._transport is not None:
            self._transport.abort()
        elif not self.ended.done():
            self.ended.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        if self.failure is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.failure is not None:
            return
        reader, waiting = self._reader, self._waiting
        reader.feed(data)
        gets = reader.gets
        try:
            while waiting:
                told, expected, replies, _ = waiting[0]
                for _ in range(expected - len(replies)):
                    reply = gets()
                    if reply is False:  # the rest has not come yet
                        return
                    replies.append(reply)
                waiting.popleft()
                told(replies if not self._refused else self._without_errors(replies))
            unasked = gets()
            if unasked is not False:
                # Redis says so of itself when it turns a connection away.
                turned_away = isinstance(unasked, Exception)
                why = "it said what nobody had asked for"
                self.give_up(refused(unasked, self._address) if turned_away else lost(self._address, why))
        except hiredis.ProtocolError as error:
            self.give_up(lost(self._address, f"what answers is no Redis: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.give_up(lost(self._address, exc))
        if not self.ended.done():
            self.ended.set_result(None)

    def _without_errors(self, replies: list[Any]) -> _Replies:
        self._refused = False
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        return refused(errors[0], self._address) if errors else replies

    def _refusal(self, text: str) -> Exception:
        self._refused = True
        return hiredis.ReplyError(text)

    def _flush(self) -> None:
        if self.failure is None and self._transport is not None:
            out = self._out
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()

    def _sweep(self) -> None:
        self._swept = False
        if self.failure is not None or not self._waiting:
            return
        if self._loop.time() - self._waiting[0][3] >= self._timeout_s:
            self.give_up(timed_out(self._address, self._timeout_s))
            return
        self._swept = True
        self._loop.call_later(self._timeout_s / _SWEEPS, self._sweep)


def _settle(future: asyncio.Future[list[Any]], replies: _Replies) -> None:
    if future.done():  # cancelled
        return
    if isinstance(replies, StoreError):
        future.set_exception(replies)
    else:
        future.set_result(replies)
