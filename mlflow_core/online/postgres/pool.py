"""Connections to PostgreSQL for the threads of one process: few, kept open, and never waited for without end.

A statement is ended by the server after ``timeout_s``; a server that says nothing at all is given up a little later.
A connection that the server has closed while nobody used it, as by a restart, is noticed when it is taken.
"""

from __future__ import annotations

import math
import select
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.waiting import Ready, Wait

from mlflow_core.errors import StoreError, StoreTimeout
from mlflow_core.online.postgres.reasons import Silence

__all__ = [
    "SETTLE",
    "Connected",
    "Pool",
    "connect_options",
    "patience_s",
    "place_of",
    "readable",
    "settings",
]

Connected: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"
_T = TypeVar("_T")

SETTLE = b"SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS s(name, value)"

# Reads look up rows one by one in the index. Before its statistics are there the server may think that a table is
# small, and a plan made then is kept for a prepared statement.
_SETTINGS = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    "enable_material": "off",
    "jit": "off",
    # Each statement must see what was committed while it waited for a lock.
    "default_transaction_isolation": "read committed",
}


class Pool:
    """Connections that are lent to one thread at a time.

    Args:
        url: ``postgresql://user:password@host:port/database``, or what else libpq reads.
        size: How many connections there are at most.
        timeout_s: How long a statement, a connection, or a free one of these may take.
        prepare: Is given each new connection before it is used.
    """

    def __init__(self, url: str, size: int, timeout_s: float, prepare: Callable[[Connected], None]) -> None:
        self._url = url
        self._size = size
        self._timeout_s = timeout_s
        self._prepare = prepare
        self._free = threading.BoundedSemaphore(size)
        self._idle: deque[_Connection] = deque()
        self._closed = False

    @contextmanager
    def connection(self) -> Iterator[Connected]:
        """Lend a connection that commits each statement; one left in a transaction is not used again.

        Raises:
            StoreTimeout: All of them are busy.
            psycopg.Error: There is no connection to the server.
        """
        if not self._free.acquire(timeout=self._timeout_s):
            raise StoreTimeout(
                f"all {self._size} connections are busy",
                place=place_of(self._url),
                hint="Allow more connections or more time, or ask less at once.",
            )
        try:
            lent = self._take()
            try:
                yield lent
            finally:
                if lent.info.transaction_status is TransactionStatus.IDLE and not self._closed:
                    self._idle.append(lent)
                else:
                    lent.close()
        finally:
            self._free.release()

    def close(self) -> None:
        """Close the connections; one that is lent is closed when it comes back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> _Connection:
        while True:
            try:
                idle = self._idle.pop()
            except IndexError:
                return self._opened()
            # Nothing was asked on it: what can be read there is the server's farewell.
            if not idle.closed and not readable(idle.fileno()):
                return idle
            idle.close()

    def _opened(self) -> _Connection:
        made = _Connection.connect(self._url, autocommit=True, **connect_options(self._url, self._timeout_s))
        made.patience_s = patience_s(self._timeout_s)
        try:
            made.execute(SETTLE, settings(self._timeout_s))
            self._prepare(made)
        except BaseException:
            made.close()
            raise
        return made


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that gives up a server which says nothing."""

    patience_s: float | None = None

    def wait(self, gen: PQGen[_T], *_: Any, **__: Any) -> _T:
        """Drive one exchange with the server, as psycopg asks, but not for ever.

        Raises:
            Silence: There was neither room to write nor anything to read for ``patience_s``.
        """
        limit = None if self.patience_s is None else self.patience_s * 1_000
        poll, socket = select.poll(), self.fileno()
        try:
            wanted = next(gen)
            while True:
                poll.register(socket, _EVENTS[wanted])
                found = poll.poll(limit)
                if not found:
                    self.pgconn.finish()
                    raise Silence(f"no answer within {self.patience_s:g} s")
                wanted = gen.send(_ready(found[0][1]))
        except StopIteration as end:
            result: _T = end.value
            return result


def connect_options(url: str, timeout_s: float) -> dict[str, Any]:
    """Return what a connection is opened with beside its URL, which has the last word on the timeout."""
    patience = max(2, math.ceil(timeout_s))  # libpq knows whole seconds, and no fewer than two
    return {
        "connect_timeout": conninfo_to_dict(url).get("connect_timeout", patience),
        "client_encoding": "utf8",
        "fallback_application_name": "mlcore",
    }


def settings(timeout_s: float) -> tuple[list[str], list[str]]:
    """Return what ``SETTLE`` takes: names and values of the settings of a new connection."""
    all_ = {**_SETTINGS, "statement_timeout": str(max(1, round(timeout_s * 1_000)))}
    return list(all_), list(all_.values())


def patience_s(timeout_s: float) -> float:
    """Return after how many seconds a silent server is given up: it should be the first, since it knows why."""
    return timeout_s + 1.0


def place_of(url: str) -> str:
    """Return a server's URL without its password.

    Raises:
        StoreError: It is no such URL; what is wrong is not told, since it may be the password.
    """
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        parts = {}
    if not parts:
        raise StoreError(
            "the URL of the PostgreSQL server cannot be read",
            object="online store",
            expected="postgresql://user:password@host:port/database, other characters of these percent-encoded",
        )
    user = f"{parts['user']}@" if parts.get("user") else ""
    port = f":{parts['port']}" if parts.get("port") else ""
    host = str(parts.get("host", ""))
    folder = f"?host={host}" if host.startswith("/") else ""
    return f"postgresql://{user}{'' if folder else host}{port}/{parts.get('dbname', '')}{folder}"


_EVENTS = {Wait.R: select.POLLIN, Wait.W: select.POLLOUT, Wait.RW: select.POLLIN | select.POLLOUT}


def _ready(events: int) -> Ready:
    # A closed or broken socket is "ready" for both: reading or writing then says what is wrong.
    reads = events & ~select.POLLOUT
    writes = events & ~select.POLLIN
    return Ready.RW if reads and writes else Ready.R if reads else Ready.W


def readable(socket: int) -> bool:
    """Whether there is something to read on a socket, or its other end is closed."""
    poll = select.poll()
    poll.register(socket, select.POLLIN)
    return bool(poll.poll(0))
