"""Blocking connections to one Redis server, taken from a pool: commands go out many at once, replies come in order.

For writing, and for reading outside an event loop; ``pipelined`` reads inside of one. A connection that failed is
closed and never used again, so that no late reply is taken for another's.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from mlflow_core.errors import StoreError
from mlflow_core.online.redis.address import Address
from mlflow_core.online.redis.command import packed
from mlflow_core.online.redis.refusals import lost, refused, timed_out, unreachable

__all__ = ["Channels"]

_SEND = 256 * 1024  # bytes sent at once
_AHEAD = 4  # such sends whose replies are still awaited: Redis works while the next ones are packed
_RECEIVE = 256 * 1024
_IDLE = 16  # connections kept


class Channels:
    """Connections to one server, opened when they are needed; safe among threads and after a fork.

    Args:
        address: The server.
        timeout_s: How long to wait for a connection, and for each answer.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self._idle: list[_Channel] = []
        self._process = os.getpid()

    def execute(self, commands: Iterable[tuple[bytes, int]], *, harm: str | None = None) -> list[Any]:
        """Send commands without waiting for each, and return all of their replies.

        Args:
            commands: Commands packed as they are sent, and how many replies each of these gets.
            harm: What an error shall say about what may have happened.

        Returns:
            The replies in order; an error reply stands in its place as an ``Exception``.

        Raises:
            StoreError: There is no connection, it was lost, or an answer did not come in time.
        """
        channel = self._taken()
        try:
            replies = channel.execute(commands)
        except TimeoutError as error:
            channel.close()
            raise timed_out(self.address, self.timeout_s, harm=harm) from error
        except OSError as error:
            channel.close()
            raise lost(self.address, error.strerror or error, harm=harm) from error
        except EOFError as error:
            channel.close()
            raise lost(self.address, harm=harm) from error
        except BaseException:
            channel.close()
            raise
        if len(self._idle) < _IDLE:
            self._idle.append(channel)
        else:
            channel.close()
        return replies

    def close(self) -> None:
        """Close the connections that nobody uses."""
        idle, self._idle = self._idle, []
        for channel in idle:
            channel.close()

    def _taken(self) -> _Channel:
        if self._process != os.getpid():
            # The parent's connections: closing our end of them leaves its own open.
            self.close()
            self._process = os.getpid()
        while True:
            try:
                channel = self._idle.pop()
            except IndexError:
                return self._opened()
            if channel.is_quiet():
                return channel
            channel.close()

    def _opened(self) -> _Channel:
        try:
            channel = _Channel(_connected(self.address, self.timeout_s))
        except OSError as error:
            raise unreachable(error, self.address) from error
        try:
            for command in self.address.greetings():
                [reply] = channel.execute([(packed(command), 1)])
                if isinstance(reply, Exception):
                    raise refused(reply, self.address)
        except StoreError:
            channel.close()
            raise
        except (OSError, EOFError) as error:
            channel.close()
            raise unreachable(
                error if isinstance(error, OSError) else ConnectionResetError("closed"), self.address
            ) from error
        return channel


def _connected(address: Address, timeout_s: float) -> socket.socket:
    if address.path is not None:
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            plain.settimeout(timeout_s)
            plain.connect(address.path)
        except BaseException:
            plain.close()
            raise
        return plain
    host, port = address.hosts[0]
    plain = socket.create_connection((host, port), timeout_s)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if address.tls is None:
            return plain
        return address.tls.context().wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


class _Channel:
    """One connection."""

    def __init__(self, connected: socket.socket) -> None:
        import hiredis

        self._socket = connected
        self._reader: Any = hiredis.Reader()
        self._broken: type[Exception] = hiredis.ProtocolError

    def execute(self, commands: Iterable[tuple[bytes, int]]) -> list[Any]:
        replies: list[Any] = []
        awaited: list[int] = []
        parts: list[bytes] = []
        size = expected = 0
        for data, count in commands:
            parts.append(data)
            size += len(data)
            expected += count
            if size >= _SEND:
                self._socket.sendall(b"".join(parts))
                parts.clear()
                size = 0
                awaited.append(expected)
                if len(awaited) > _AHEAD:
                    self._receive(replies, awaited.pop(0))
        if parts:
            self._socket.sendall(b"".join(parts))
        self._receive(replies, expected)
        return replies

    def is_quiet(self) -> bool:
        """Whether nothing has come that nobody asked for, the end of the connection least of all."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | select.POLLHUP | select.POLLERR)
        return not poll.poll(0)

    def close(self) -> None:
        with suppress(OSError):
            self._socket.close()

    def _receive(self, replies: list[Any], until: int) -> None:
        gets = self._reader.gets
        while len(replies) < until:
            try:
                reply = gets()
            except self._broken as error:
                raise ConnectionAbortedError(f"what answers is no Redis: {error}") from error
            if reply is False:
                data = self._socket.recv(_RECEIVE)
                if not data:
                    raise EOFError
                self._reader.feed(data)
            else:
                replies.append(reply)
