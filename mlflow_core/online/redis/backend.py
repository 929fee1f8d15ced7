"""The online store on Redis 7: a hash for each entity, a field for each view, one packed value in it.

Which value stays is decided by scripts inside Redis (``scripts``), some hundred rows in one atomic call; a write of
more rows is many such calls, each of which checks the definition first. In a cluster rows of one slot make a call,
and the definition is checked before every 20,000 rows: a definition that is replaced in between is noticed at the
next ones. Reads are plain HMGETs in one round trip; those of an event loop share a connection (``pipelined``).
Nothing here depends on how Redis is configured; what it may lose (evictions, no persistence) is its operator's choice.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from mlflow_core.config.clock import Clock, SystemClock
from mlflow_core.errors import StoreError
from mlflow_core.online.backend import LAST_SEQUENCE, Ask, Found, OnlineTable, Told
from mlflow_core.online.head import SIGN, tombstone
from mlflow_core.online.redis.address import parse_url
from mlflow_core.online.redis.command import Command, bulk, bulks, call, call_head, packed
from mlflow_core.online.redis.keys import BOUNDARY, COLUMNS, DEFINITIONS, Names, Reads, answered, field_of
from mlflow_core.online.redis.refusals import HARMLESS, check_installed, refused
from mlflow_core.online.redis.scripts import (
    BEGIN,
    DECLARE,
    DEFINE,
    ERASE,
    FINISH,
    PLACE,
    STALE,
    STORE,
    WRITE,
    Script,
)
from mlflow_core.online.rows import Row, RowBlock, bytes_of, greatest, one_schema

__all__ = ["RedisBackend"]

_ROWS = 500  # in one call of a script: about a millisecond in which Redis answers nobody else
_BYTES = 1 << 20
_ROWS_BETWEEN_CHECKS = 20_000
_KEYS = 100  # erased in one call
_SCANNED = 1_000
_BOUNDARY = struct.Struct(">Q")

_Call = tuple[Sequence[bytes], Sequence[bytes]]


class RedisBackend:
    """An online store in Redis.

    Args:
        url: Where it is; see ``address`` for the forms (TLS, sockets, clusters).
        project: Whose rows these are.
        clock: Says when a key was erased.
        timeout_s: How long to wait for a connection, and for an answer.

    Raises:
        ConfigError: The URL is none, or the packages of the extra ``redis`` are missing.
        StoreError: On use: Redis is not there, refuses, or gives no answer in time (``StoreTimeout``).
    """

    def __init__(self, url: str, project: str, clock: Clock | None = None, *, timeout_s: float = 5.0) -> None:
        check_installed()
        from mlflow_core.online.redis.connections import Connections

        self.project = project
        self.clock = clock or SystemClock()
        self.timeout_s = timeout_s
        self.address = parse_url(url)
        self._url = url
        self._names = Names(project)
        self._reads = Reads(self._names)
        self._connections = Connections(self.address, timeout_s)

    def __repr__(self) -> str:
        return f"RedisBackend({self.address.shown!r}, {self.project!r})"

    def __reduce__(self) -> tuple[object, ...]:
        # A worker in another process opens its own connections.
        return (_reopened, (self._url, self.project, self.clock, self.timeout_s))

    def declare(self, table: OnlineTable, schema_hash: bytes) -> None:
        """Make a schema the current one of a view; see ``OnlineBackend.declare``."""
        self._call(DECLARE, self._definition(table, schema_hash))

    def write(self, table: OnlineTable, rows: Sequence[Row]) -> int:
        """Write rows of one view, some hundred at a time; see ``OnlineBackend.write``."""
        if not rows:
            return 0
        schema = one_schema(rows, table.view)
        rows = greatest(rows)
        definition = self._definition(table, schema)
        prefix = self._names.prefix(table.keys)
        if self._connections.cluster is None:
            replies = self._stored(prefix, [*definition, field_of(table.view)], rows)
        else:
            replies = []
            for start in range(0, len(rows), _ROWS_BETWEEN_CHECKS):
                chunk = rows[start : start + _ROWS_BETWEEN_CHECKS]
                replies += self._stored_by_slot(
                    prefix, table.view, definition, chunk, self._connections.cluster.slot
                )
                if isinstance(replies[-1], Exception):
                    break
        return self._changes(replies, table.view)

    def read(self, asks: Sequence[Ask]) -> list[Found]:
        """Read keys of any entities and views in one round trip; see ``OnlineBackend.read``."""
        return answered(
            asks, self._connections.lists(lambda: self._reads.packed(asks), lambda: self._asked(asks))
        )

    async def read_async(self, asks: Sequence[Ask]) -> list[Found]:
        """Read on the event loop's one connection; in a cluster in a thread; see ``AsyncReads.read_async``."""
        if self._connections.cluster is not None:
            return await asyncio.to_thread(self.read, asks)
        packed, count = self._reads.packed(asks)
        return answered(asks, await self._connections.pipelined.fetch(packed, count) if count else [])

    @property
    def reads_soon(self) -> bool:
        """Whether this is one server: a cluster is read in threads."""
        return self._connections.cluster is None

    def read_soon(self, asks: Sequence[Ask], told: Told) -> bool:
        """Begin to read on the event loop's connection, if there is one; see ``SoonReads.read_soon``."""
        return self._connections.lists_soon(*self._reads.packed(asks), partial(answered, asks), told)

    def erase(self, asks: Sequence[Ask], until: int | None = None) -> int:
        """Erase keys and leave tombstones; see ``OnlineBackend.erase``."""
        grave = tombstone(self.clock.now_us() if until is None else until, LAST_SEQUENCE)
        everything = b"1" if until is None else b"0"
        taken = 0
        for ask in asks:
            if not ask.views or not ask.keys:
                continue
            self._call(PLACE, [self._names.columns(ask.entity), *(view.encode() for view in ask.views)])
            prefix = self._names.prefix(ask.entity)
            keys = [prefix + key for key in dict.fromkeys(ask.keys)]
            size = _KEYS if self._connections.cluster is None else 1
            batches = [keys[i : i + size] for i in range(0, len(keys), size)]
            replies = self._called(
                ERASE, len(batches), partial(_with, batches, [grave, everything, *map(field_of, ask.views)])
            )
            taken += self._changes(replies, ", ".join(ask.views))
        return taken

    def keys(self, table: OnlineTable) -> Iterator[bytes]:
        """Go through the keys stored for a view; goes through all keys of the database, see ``OnlineBackend.keys``."""
        prefix, field = self._names.prefix(table.keys), field_of(table.view)
        for names in self._scanned(prefix + b"*"):
            there = self._done([Command(name, (b"HEXISTS", name, field)) for name in names])
            yield from (name[len(prefix) :] for name, found in zip(names, there, strict=True) if found)

    def drop(self, views: Sequence[str] | None = None) -> None:
        """Remove views of this project; goes through all keys of the database, see ``OnlineBackend.drop``."""
        project = self._names.project
        if views is None:
            for keys in self._scanned(self._names.rows + b"*"):
                self._done([Command(key, (b"UNLINK", key)) for key in keys])
            self._done([Command(project, (b"UNLINK", project))])
            return
        if not views:
            return
        names = [view.encode() for view in views]
        by_columns: dict[bytes, list[bytes]] = {}
        [places] = self._done([Command(project, (b"HMGET", project, *(COLUMNS + name for name in names)))])
        for name, lines in zip(names, places, strict=True):
            for columns in (lines or b"").split(b"\n")[1:-1]:
                by_columns.setdefault(columns, []).append(field_of(name.decode()))
        for columns, dropped in by_columns.items():
            for keys in self._scanned(self._names.rows + columns + b":*"):
                self._done([Command(key, (b"HDEL", key, *dropped)) for key in keys])
        # Last, so that a drop that was interrupted still knows where to go on.
        noted = [kind + name for kind in (DEFINITIONS, COLUMNS, BOUNDARY) for name in names]
        self._done([Command(project, (b"HDEL", project, *noted))])

    def begin(self, table: OnlineTable, boundary: int) -> None:
        """Note that a view is being brought to a boundary; see ``OnlineBackend.begin``."""
        self._call(BEGIN, self._definition(table, _BOUNDARY.pack(boundary + SIGN)))

    def finish(self, table: OnlineTable, boundary: int) -> None:
        """Note that a view has reached a boundary; see ``OnlineBackend.finish``."""
        self._call(FINISH, self._definition(table, _BOUNDARY.pack(boundary + SIGN)))

    def unfinished(self) -> Mapping[str, int]:
        """Return the boundary of every unfinished materialisation; see ``OnlineBackend.unfinished``."""
        project = self._names.project
        [found] = self._done([Command(project, (b"HGETALL", project))])
        pairs = zip(found[::2], found[1::2], strict=True)
        return {
            name[1:].decode(): _BOUNDARY.unpack(value)[0] - SIGN
            for name, value in pairs
            if name.startswith(BOUNDARY)
        }

    def close(self) -> None:
        """Close the connections of this process."""
        self._connections.close()

    async def close_async(self) -> None:
        """Close the running event loop's connection."""
        await self._connections.pipelined.close_async()

    def _definition(self, table: OnlineTable, last: bytes) -> list[bytes]:
        return [table.view.encode(), self._names.columns(table.keys), last]

    def _stored(self, prefix: bytes, definition: list[bytes], rows: Sequence[Row]) -> list[Any]:
        project = self._names.project
        size = max(1, min(_ROWS, _BYTES * len(rows) // bytes_of(rows)))

        count = -(-len(rows) // size)
        if isinstance(rows, RowBlock):
            return self._sent(count, _calls_of(project, prefix, definition, rows, size), harm=HARMLESS)

        def one(i: int) -> _Call:
            batch = rows[i * size : (i + 1) * size]
            keys = [project]
            keys += [prefix + key for key, _ in batch]
            return keys, definition + [value for _, value in batch]

        return self._called(WRITE, count, one, harm=HARMLESS)

    def _stored_by_slot(
        self,
        prefix: bytes,
        view: str,
        definition: list[bytes],
        rows: Sequence[Row],
        slot: Callable[[bytes], int],
    ) -> list[Any]:
        defined = self._called(DEFINE, 1, lambda _: ([self._names.project], definition))
        if isinstance(defined[0], Exception):
            return defined
        slots: dict[int, tuple[list[bytes], list[bytes]]] = {}
        for key, value in rows:
            name = prefix + key
            keys, values = slots.setdefault(slot(name), ([], [field_of(view)]))
            keys.append(name)
            values.append(value)
        calls = list(slots.values())
        return self._called(STORE, len(calls), calls.__getitem__, harm=HARMLESS)

    def _changes(self, replies: Sequence[Any], view: str) -> int:
        changed = sum([reply for reply in replies if type(reply) is int])
        for reply in replies:
            if not isinstance(reply, Exception):
                continue
            harm = HARMLESS if changed else None
            code, _, newest = str(reply).partition(" script: ")[0].partition(" ")
            if code != STALE:
                raise refused(reply, self.address, harm=harm)
            raise StoreError(
                "its rows were packed by a definition that has been replaced",
                object=f'view "{view}"',
                place=self.address.shown,
                expected=f"schema {newest}",
                hint="Apply the repository and materialise the view again." + (f" {harm}" if harm else ""),
            )
        return changed

    def _call(self, script: Script, args: Sequence[bytes]) -> None:
        self._done([call(script, [self._names.project], args)])

    def _called(
        self, script: Script, count: int, one: Callable[[int], _Call], *, harm: str | None = None
    ) -> list[Any]:
        """Call a script many times over."""
        if self._connections.cluster is not None and count > 1:
            self._connections.cluster.load(script)
        return self._sent(count, lambda i, whole: call(script, *one(i), whole=whole), harm=harm)

    def _sent(
        self, count: int, one: Callable[[int, bool], Command | bytes], *, harm: str | None = None
    ) -> list[Any]:
        """Send calls of a script; its source goes with the first of them, and where Redis has forgotten it."""
        whole = count == 1 or self._connections.cluster is None
        replies = self._executed((one(i, whole and i == 0) for i in range(count)), harm)
        forgotten = [i for i, reply in enumerate(replies) if str(reply).startswith("NOSCRIPT")]
        again = self._executed((one(i, True) for i in forgotten), harm) if forgotten else []
        for i, reply in zip(forgotten, again, strict=True):
            replies[i] = reply
        return replies

    def _done(self, commands: Sequence[Command]) -> list[Any]:
        replies = self._executed(iter(commands), None)
        for reply in replies:
            if isinstance(reply, Exception):
                raise refused(reply, self.address)
        return replies

    def _executed(self, commands: Iterator[Command | bytes], harm: str | None) -> list[Any]:
        if self._connections.cluster is not None:
            return self._connections.cluster.execute([_of_a_node(one) for one in commands], harm=harm)
        return self._connections.channels.execute(
            ((one if isinstance(one, bytes) else packed(one.args), 1) for one in commands), harm=harm
        )

    def _asked(self, asks: Sequence[Ask]) -> Iterator[Command]:
        for ask in asks:
            prefix = self._names.prefix(ask.entity)
            fields = [field_of(view) for view in ask.views]
            for key in ask.keys if fields else ():
                name = prefix + key
                yield Command(name, (b"HMGET", name, *fields))

    def _scanned(self, pattern: bytes) -> Iterator[list[bytes]]:
        if self._connections.cluster is not None:
            yield from self._connections.cluster.scan(pattern, _SCANNED)
            return
        cursor = b"0"
        while True:
            scan = (b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"%d" % _SCANNED)
            [[cursor, keys]] = self._done([Command(b"", scan)])
            yield keys
            if cursor == b"0":
                return


def _calls_of(
    project: bytes, prefix: bytes, definition: Sequence[bytes], rows: RowBlock, size: int
) -> Callable[[int, bool], bytes]:
    """Pack calls of ``WRITE`` without a loop over rows; given a call's number and whether to send the source."""
    keys, values = bulks(rows.spelled, prefix), bulks(rows.packed)
    first, between = bulk([project]), bulk(definition)

    def one(i: int, whole: bool) -> bytes:
        some = slice(i * size, (i + 1) * size)
        n = len(keys[some])
        head = call_head(WRITE, 1 + n, len(definition) + n, whole=whole)
        return b"".join([head, first, keys[some].tobytes(), between, values[some].tobytes()])

    return one


def _of_a_node(command: Command | bytes) -> Command:
    if isinstance(command, bytes):
        raise TypeError("a command that is packed does not say to which node of a cluster it goes")
    return command


def _with(batches: Sequence[list[bytes]], args: Sequence[bytes], i: int) -> _Call:
    return batches[i], args


def _reopened(url: str, project: str, clock: Clock, timeout_s: float) -> RedisBackend:
    return RedisBackend(url, project, clock, timeout_s=timeout_s)
