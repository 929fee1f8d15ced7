"""The embedded online store: one SQLite file in WAL mode, for several processes and several projects.

One table row per (view, key); views are numbered so that their names are stored once. The rule that a smaller
version never replaces a greater one stands in the upsert itself, see ``backend`` for its meaning. A write is one
transaction, all or nothing. A read of any number of views is one statement up to 30,000 keys, and one transaction
above.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlflow_core.config.clock import Clock, SystemClock
from mlflow_core.errors import StoreError
from mlflow_core.online.backend import LAST_SEQUENCE, Ask, Found, OnlineTable
from mlflow_core.online.head import (
    KIND_AT,
    SCHEMA_AT,
    VERSION_BYTES,
    Kind,
    is_tombstone,
    tombstone,
    version_of,
)
from mlflow_core.online.rows import Row, greatest, one_schema

__all__ = ["FILE_LAYOUT", "SqliteBackend"]

FILE_LAYOUT = 2  # PRAGMA user_version of the files this module writes
_PARAMETERS = 30_000  # below SQLite's own limit of 32,766 values in one statement
_KEYS_AT_ONCE = 10_000
_SELECTS = 400  # below its limit of 500 terms in a compound select

_TABLES = """
CREATE TABLE IF NOT EXISTS views (
    id INTEGER PRIMARY KEY, project TEXT NOT NULL, name TEXT NOT NULL, unfinished INTEGER, UNIQUE (project, name)
);
CREATE TABLE IF NOT EXISTS definitions (
    view INTEGER NOT NULL, schema BLOB NOT NULL, generation INTEGER NOT NULL, PRIMARY KEY (view, schema)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    view INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (view, key)
) WITHOUT ROWID;
"""

# substr counts from 1.
_VERSION = f"substr({{}}.value, 1, {VERSION_BYTES})"
_SCHEMA = f"substr({{}}.value, {SCHEMA_AT.start + 1}, {SCHEMA_AT.stop - SCHEMA_AT.start})"
_BURIED = f"substr(rows.value, {KIND_AT + 1}, 1) = x'{Kind.TOMBSTONE:02x}'"
_INSERT = "INSERT INTO rows (view, key, value) VALUES (?, ?, ?) ON CONFLICT (view, key) DO UPDATE SET value = excluded.value"
_UPSERT = f"""
{_INSERT} WHERE {_VERSION.format("excluded")} > {_VERSION.format("rows")}
   OR (NOT {_BURIED} AND {_SCHEMA.format("rows")} <> {_SCHEMA.format("excluded")})
"""
_SELECT = (
    "SELECT {at}, {column}, key, value FROM rows "
    "WHERE view = (SELECT id FROM views WHERE project = ? AND name = ?) AND key IN ({marks})"
)
_KEYS = (
    "SELECT key FROM rows WHERE view = (SELECT id FROM views WHERE project = ? AND name = ?) "
    "AND key {} ? ORDER BY key LIMIT ?"
)


class SqliteBackend:
    """An online store in a SQLite file.

    Args:
        path: The file; made with its folder when it is not there.
        project: Whose rows these are.
        clock: Says when a key was erased.
        timeout_s: How long to wait for another process that writes.

    Raises:
        StoreError: On first use: the file cannot be opened, is no online store, or is of a newer layout.
    """

    def __init__(
        self, path: Path | str, project: str, clock: Clock | None = None, *, timeout_s: float = 10.0
    ) -> None:
        self.path = Path(path)
        self.project = project
        self.clock = clock or SystemClock()
        self.timeout_s = timeout_s
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: dict[int, sqlite3.Connection] = {}
        self._inherited: dict[int, sqlite3.Connection] = {}
        self._process = os.getpid()
        self._was_there = False

    def __reduce__(self) -> tuple[object, ...]:
        # A worker in another process opens its own connections.
        return (_reopened, (self.path, self.project, self.clock, self.timeout_s))

    def declare(self, table: OnlineTable, schema_hash: bytes) -> None:
        """Make a schema the current one of a view; see ``OnlineBackend.declare``."""
        with self._transaction() as connection:
            newest = self._newest(connection, table.view)
            if newest is None or newest[0] != schema_hash:
                self._define(connection, table.view, schema_hash, newest)

    def write(self, table: OnlineTable, rows: Sequence[Row]) -> int:
        """Write rows of one view in one transaction; see ``OnlineBackend.write``."""
        if not rows:
            return 0
        schema = one_schema(rows, table.view)
        with self._transaction() as connection:
            number = self._current(connection, table.view, schema)
            before = connection.total_changes
            # In the order of the tree they are kept in, which is nearly twice as fast.
            connection.executemany(_UPSERT, ((number, key, value) for key, value in sorted(greatest(rows))))
            return connection.total_changes - before

    def read(self, asks: Sequence[Ask]) -> list[Found]:
        """Read keys of several views as of one moment; see ``OnlineBackend.read``."""
        found: list[list[dict[bytes, bytes]]] = [[{} for _ in ask.views] for ask in asks]
        statements = list(self._statements(asks))
        with self._connection() as connection:
            if len(statements) > 1:
                connection.execute("BEGIN")
            try:
                for sql, parameters in statements:
                    for at, column, key, value in connection.execute(sql, parameters):
                        found[at][column][key] = value
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        return [
            [[values.get(key) for values in columns] for key in ask.keys]
            for ask, columns in zip(asks, found, strict=True)
        ]

    def erase(self, asks: Sequence[Ask], until: int | None = None) -> int:
        """Erase keys and leave tombstones; see ``OnlineBackend.erase``."""
        now = self.clock.now_us() if until is None else until
        with self._transaction() as connection:
            had = 0
            for view, keys in ((view, ask.keys) for ask in asks for view in ask.views):
                number = self._number(connection, view)
                for key in dict.fromkeys(keys):
                    stored = connection.execute(
                        "SELECT value FROM rows WHERE view = ? AND key = ?", (number, key)
                    ).fetchone()
                    time = now if stored is None else max(now, version_of(stored[0])[0])
                    if time > now and until is not None:
                        continue
                    had += stored is not None and not is_tombstone(stored[0])
                    connection.execute(_INSERT, (number, key, tombstone(time, LAST_SEQUENCE)))
            return had

    def keys(self, table: OnlineTable) -> Iterator[bytes]:
        """Go through the keys that are stored for a view, some at a time; see ``OnlineBackend.keys``."""
        comparison, last = ">=", b""
        while True:
            some = (self.project, table.view, last, _KEYS_AT_ONCE)
            with self._connection() as connection:
                found = connection.execute(_KEYS.format(comparison), some).fetchall()
            yield from (key for (key,) in found)
            if len(found) < _KEYS_AT_ONCE:
                return
            comparison, last = ">", found[-1][0]

    def drop(self, views: Sequence[str] | None = None) -> None:
        """Remove views of this project and nothing else; see ``OnlineBackend.drop``."""
        with self._transaction() as connection:
            known = dict(
                connection.execute("SELECT name, id FROM views WHERE project = ?", (self.project,)).fetchall()
            )
            for name in known if views is None else views:
                number = (known.get(name),)
                connection.execute("DELETE FROM rows WHERE view = ?", number)
                connection.execute("DELETE FROM definitions WHERE view = ?", number)
                connection.execute("DELETE FROM views WHERE id = ?", number)

    def begin(self, table: OnlineTable, boundary: int) -> None:
        """Note that a view is being brought to a boundary; see ``OnlineBackend.begin``."""
        with self._transaction() as connection:
            number = self._number(connection, table.view)
            # What began for a later boundary is still half new when an earlier one has been reached.
            later = "UPDATE views SET unfinished = max(ifnull(unfinished, ?1), ?1) WHERE id = ?2"
            connection.execute(later, (boundary, number))

    def finish(self, table: OnlineTable, boundary: int) -> None:
        """Note that a view has reached a boundary; see ``OnlineBackend.finish``."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE views SET unfinished = NULL WHERE project = ? AND name = ? AND unfinished <= ?",
                (self.project, table.view, boundary),
            )

    def unfinished(self) -> dict[str, int]:
        """Return what has begun and not finished; see ``OnlineBackend.unfinished``."""
        with self._connection() as connection:
            return dict(
                connection.execute(
                    "SELECT name, unfinished FROM views WHERE project = ? AND unfinished IS NOT NULL",
                    (self.project,),
                ).fetchall()
            )

    def close(self) -> None:
        """Close the connections of all threads of this process."""
        with self._lock:
            for connection in self._open.values():
                connection.close()
            self._open.clear()
            self._local = threading.local()

    def _statements(self, asks: Sequence[Ask]) -> Iterator[tuple[str, list[object]]]:
        selects: list[str] = []
        parameters: list[object] = []
        for at, ask in enumerate(asks):
            for column, view in enumerate(ask.views):
                distinct = list(dict.fromkeys(ask.keys))
                while distinct:
                    room = _PARAMETERS - len(parameters) - 2
                    if room <= 0 or len(selects) == _SELECTS:
                        yield " UNION ALL ".join(selects), parameters
                        selects, parameters = [], []
                        continue
                    chunk, distinct = distinct[:room], distinct[room:]
                    selects.append(_SELECT.format(at=at, column=column, marks=",".join("?" * len(chunk))))
                    parameters += [self.project, view, *chunk]
        if selects:
            yield " UNION ALL ".join(selects), parameters

    def _number(self, connection: sqlite3.Connection, view: str) -> int:
        connection.execute("INSERT OR IGNORE INTO views (project, name) VALUES (?, ?)", (self.project, view))
        one = "SELECT id FROM views WHERE project = ? AND name = ?"
        return int(connection.execute(one, (self.project, view)).fetchone()[0])

    def _newest(self, connection: sqlite3.Connection, view: str) -> tuple[bytes, int] | None:
        found: tuple[bytes, int] | None = connection.execute(
            "SELECT schema, generation FROM definitions WHERE view = ? ORDER BY generation DESC LIMIT 1",
            (self._number(connection, view),),
        ).fetchone()
        return found

    def _define(
        self, connection: sqlite3.Connection, view: str, schema: bytes, newest: tuple[bytes, int] | None
    ) -> None:
        connection.execute(
            "INSERT INTO definitions (view, schema, generation) VALUES (?, ?, ?) "
            "ON CONFLICT (view, schema) DO UPDATE SET generation = excluded.generation",
            (self._number(connection, view), schema, 1 if newest is None else newest[1] + 1),
        )

    def _current(self, connection: sqlite3.Connection, view: str, schema: bytes) -> int:
        """Return the view's number if the schema is its current one, or has never been seen."""
        number, newest = self._number(connection, view), self._newest(connection, view)
        if newest is None or newest[0] != schema:
            seen = connection.execute(
                "SELECT 1 FROM definitions WHERE view = ? AND schema = ?", (number, schema)
            ).fetchone()
            if seen is not None and newest is not None:
                raise StoreError(
                    f"its rows were packed by a definition that has been replaced (schema {schema.hex()})",
                    object=f'view "{view}"',
                    place=str(self.path),
                    expected=f"schema {newest[0].hex()}",
                    hint="Apply the repository and materialise the view again.",
                )
            self._define(connection, view, schema, newest)
        return number

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            # Immediate: a transaction that reads first and then writes could fail for another's write between.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._mine()
        except (sqlite3.Error, OSError) as error:
            raise _explained(error, self.path) from error
        except OverflowError as error:
            raise StoreError(f"a version is no int64: {error}", place=str(self.path)) from error

    def _mine(self) -> sqlite3.Connection:
        """Return this thread's connection to the file that is there now.

        One from before a fork belongs to the parent, and one to a file that has been replaced would go on reading
        what is no longer there. A file that was here and has gone is not made again: it would answer "not found".
        """
        mine: sqlite3.Connection | None = getattr(self._local, "connection", None)
        inode = self._inode()
        if mine is None or self._local.inode != inode or self._process != os.getpid():
            if inode is None and self._was_there:
                raise StoreError(
                    "the online store has been removed",
                    place=str(self.path),
                    hint="Put the file back, or start this process again to begin with an empty one.",
                )
            self._close_idle()
            mine = _connected(self.path, self.timeout_s)
            self._local.connection, self._local.inode = mine, self._inode()
            self._was_there = True
            with self._lock:
                self._open[threading.get_ident()] = mine
        return mine

    def _inode(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _close_idle(self) -> None:
        """Close connections whose thread has ended, but never those of the process this one was forked from."""
        with self._lock:
            if self._process != os.getpid():
                self._inherited, self._open, self._process = self._open, {}, os.getpid()
            alive = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
            for ident in [ident for ident in self._open if ident not in alive]:
                self._open.pop(ident).close()


def _reopened(path: Path, project: str, clock: Clock, timeout_s: float) -> SqliteBackend:
    return SqliteBackend(path, project, clock, timeout_s=timeout_s)


def _connected(path: Path, timeout_s: float) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
    try:
        layout = connection.execute("PRAGMA user_version").fetchone()[0]
        if layout == 0:
            _prepare(connection, path, time.monotonic() + timeout_s)
        elif layout != FILE_LAYOUT:
            raise StoreError(
                f"the online store has layout {layout}, this version knows {FILE_LAYOUT}",
                place=str(path),
                hint="Upgrade this process, or name another file."
                if layout > FILE_LAYOUT
                else "Name another file, or remove this one, and materialise again.",
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, deadline: float) -> None:
    taken = connection.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
    if taken and {"views", "definitions", "rows"} - {name for (name,) in taken}:
        raise StoreError(
            f'is a SQLite file of something else (it has "{taken[0][0]}")',
            object="online store",
            place=str(path),
            hint="Name another file.",
        )
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # SQLite does not wait for this lock itself: two processes may be making the file at once.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {FILE_LAYOUT}; COMMIT;")


def _explained(error: sqlite3.Error | OSError, path: Path) -> StoreError:
    text = str(error)
    hint = next((hint for words, hint in _HINTS if words in text), None)
    return StoreError(f"the online store cannot be used: {text}", place=str(path), hint=hint)


_HINTS = (
    ("locked", "Another process is writing to it; nothing was changed. Try again, or find that process."),
    ("readonly", "Make the file and its folder writable; nothing was changed."),
    ("full", "Free some space on the disk; nothing was changed."),
    ("disk I/O", "Look at the disk; nothing was changed."),
    ("not a database", "Name another file, or remove this one and materialise again."),
    ("malformed", "Restore the file, or remove it and materialise again."),
    ("unable to open", "Check that the folder exists and can be written."),
    ("Permission denied", "Check who owns the folder."),
)
