"""The connection: SQLite as it must be set up, one writer at a time, and one clear error for each failure.

SQLite runs in WAL mode with foreign keys; a write begins with ``BEGIN IMMEDIATE``, so that it waits for its
turn at the start and never fails half-way. ``synchronous=NORMAL``: a killed process loses nothing, a power
cut may lose the last transactions but no part of one. PostgreSQL is made to behave alike: a write takes one
advisory lock of the database first, and a read sees one snapshot. So on both, whatever looks for a row before
it adds one (a version's number, the end of the audit chain) is safe without further locks.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, StaticPool, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from mlflow_core.errors import MetadataError
from mlflow_core.metadata.canonical import canonical, parsed
from mlflow_core.metadata.prepared import Raw

# "mlcore" as a number; the lock belongs to the database, and goes with the transaction.
WRITERS_LOCK: Final = 0x6D6C636F7265
SECRET_OPTIONS: Final = ("password", "sslpassword")
_REASONS: Final = (
    (
        "database is locked",
        "is locked by another process",
        "Wait for the other command to end, then try again.",
    ),
    ("table is locked", "is locked by another process", "Wait for the other command to end, then try again."),
    (
        "readonly database",
        "is read-only",
        "Make the file and its folder writable, or use another [metadata] url.",
    ),
    (
        "lock timeout",
        "is locked by another process",
        "Wait for the other command to end, then try again.",
    ),
    (
        "unable to open database file",
        "cannot be opened",
        "Check that the folder exists and may be read and written.",
    ),
    (
        "not a database",
        "is not an SQLite database",
        "Check [metadata] url, or move the file away, then: mlcore db restore BACKUP",
    ),
    (
        "malformed",
        "is damaged",
        "Move the file away, with its -wal and -shm, then: mlcore db restore BACKUP",
    ),
    ("is full", "cannot grow: the disk is full", "Free some space, then try again; nothing was changed."),
    ("disk i/o error", "cannot be read or written: disk I/O error", "Check the disk and its free space."),
    ("no such table", "has not the tables of this version", "Run: mlcore db upgrade"),
    ("no such column", "has not the tables of this version", "Run: mlcore db upgrade"),
    ("undefinedtable", "has not the tables of this version", "Run: mlcore db upgrade"),
)


class Database:
    """A metadata database that is open.

    Args:
        url: SQLAlchemy's url. A file's folder is created by :func:`mlflow_core.metadata.upgrade.upgrade`.
        busy_timeout_s: How long a write waits for other writers.

    Raises:
        MetadataError: The url is wrong, or its driver is not installed.
    """

    def __init__(self, url: str | URL, *, busy_timeout_s: float = 30.0) -> None:
        try:
            self.url: URL = _with_our_driver(_read(url))
            self._engine = _engine(self.url, busy_timeout_s)
        except (NoSuchModuleError, ImportError) as error:
            raise MetadataError(
                f"the driver of {self.url.drivername} is not installed",
                place=self.shown,
                hint="For PostgreSQL install mlflow-core[postgres].",
            ) from error
        except (ArgumentError, ValueError):
            # Not "from" the error, which may show a piece of the password as the host or port.
            raise MetadataError(
                "the metadata url is not one that SQLAlchemy reads",
                expected="sqlite:///path or postgresql://user@host/name",
                hint="The signs /, @ and : in a password are written as %2F, %40 and %3A.",
            ) from None
        self._writer = self._engine.execution_options(mlcore_write=True, **_writer_options(self.url))
        self._is_sqlite = self.url.get_backend_name() == "sqlite"
        # What the driver raises comes wrapped from SQLAlchemy, and as it is from what goes round it; of a number that is
        # too great, or a text that is none of UTF-8, it says so with Python's own errors.
        driver: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        self._errors = (SQLAlchemyError, driver, OverflowError, UnicodeEncodeError)

    @property
    def shown(self) -> str:
        """The url without its password, which may also be among the options."""
        return self.url.difference_update_query(SECRET_OPTIONS).render_as_string(hide_password=True)

    @property
    def file(self) -> Path | None:
        """The SQLite file, or None where the database is in memory or elsewhere."""
        name = self.url.database
        if (
            self.url.get_backend_name() != "sqlite"
            or not name
            or name == ":memory:"
            or name.startswith("file:")
        ):
            return None
        return Path(name)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One consistent view of the database.

        Raises:
            MetadataError: It cannot be read.
        """
        with self._told(), Session(self._engine) as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction: everything in the block happens, or nothing does.

        Raises:
            MetadataError: It cannot be written, or another row stands against it.
        """
        with self._told(), Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def connecting(self, *, write: bool) -> Iterator[Connection]:
        """A bare connection in a transaction, for looking at the schema and for migrations.

        Raises:
            MetadataError: The database cannot be used.
        """
        engine = self._writer if write else self._engine
        with self._told(), engine.begin() as connection:
            yield connection

    @contextmanager
    def rows(self, *, write: bool) -> Iterator[Raw]:
        """A transaction for statements that are text already: of SQLAlchemy only the pool stands in between.

        Raises:
            MetadataError: The database cannot be used, or another row stands against one that is written.
        """
        if not self._is_sqlite:
            # How such a transaction begins, and what may be wrong with its connection, is SQLAlchemy's to know.
            with self.connecting(write=write) as connection:
                yield Raw.of(connection)
            return
        with self._told():
            pooled = self._engine.raw_connection()
            try:
                driver: Any = pooled.driver_connection
                driver.execute(_begins(write=write))
                yield Raw(driver, "sqlite")
                driver.commit()
            finally:
                pooled.close()  # which undoes what was not committed

    def make_ready(self) -> None:
        """Create the file's folder and switch SQLite to WAL, which the file then remembers.

        Raises:
            MetadataError: The folder or the file cannot be written.
        """
        if self.file is not None:
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise MetadataError(
                    f"its folder cannot be created: {error.strerror}", place=self.shown
                ) from error
            with self._told():
                _use_wal(self._engine)

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise told(error, self.shown) from error


def told(error: Exception, shown: str) -> MetadataError:
    """What a database error means.

    Args:
        error: What SQLAlchemy or the driver raised.
        shown: The url without its password.
    """
    original = getattr(error, "orig", None) or error
    if isinstance(original, OverflowError | UnicodeEncodeError):
        return MetadataError(f"a value cannot be kept in the metadata database: {original}", place=shown)
    text = f"{type(original).__name__} {original}"
    for pattern, what, hint in _REASONS:
        if pattern in text.lower():
            return MetadataError(f"the metadata database {what}", place=shown, hint=hint)
    first = str(original).strip().split("\n", maxsplit=1)[0]
    if any(kind.__name__ == "IntegrityError" for kind in type(original).__mro__):
        return MetadataError(f"another row stands against this one: {first}", place=shown)
    return MetadataError(f"the metadata database cannot be used: {first}", place=shown)


def _read(url: str | URL) -> URL:
    made = make_url(url)
    if "@" in (made.host or ""):  # the end of a password that was not quoted
        raise ArgumentError("a host has no @ in its name")
    return made


def _with_our_driver(url: URL) -> URL:
    # SQLAlchemy's own choice for a bare postgresql:// would be psycopg2, which the extra does not bring.
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _engine(url: URL, busy_timeout_s: float) -> Engine:
    options: dict[str, Any] = {"json_serializer": canonical}
    if url.get_backend_name() != "sqlite":
        engine = create_engine(url, pool_pre_ping=True, isolation_level="REPEATABLE READ", **options)
        event.listen(engine, "begin", partial(_begin_elsewhere, timeout_ms=int(busy_timeout_s * 1_000)))
        return engine
    if url.database in (None, "", ":memory:"):
        options["poolclass"] = StaticPool  # an own memory for every connection would be an own database
    options["json_deserializer"] = parsed  # psycopg has one of its own, and gives it bytes
    options["connect_args"] = {"timeout": busy_timeout_s, "check_same_thread": False}
    engine = create_engine(url, **options)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _writer_options(url: URL) -> dict[str, Any]:
    # After waiting for its turn a writer has to see what the writer before it did.
    return {} if url.get_backend_name() == "sqlite" else {"isolation_level": "READ COMMITTED"}


def _set_up(connection: sqlite3.Connection, _record: object) -> None:
    # SQLite's driver begins transactions by itself, too late and of the wrong kind; _begin does it.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=NORMAL")


def _begins(*, write: bool) -> str:
    return "BEGIN IMMEDIATE" if write else "BEGIN"


def _begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("mlcore_write", False)
    connection.exec_driver_sql(_begins(write=write))


def _begin_elsewhere(connection: Connection, timeout_ms: int) -> None:
    write = connection.get_execution_options().get("mlcore_write", False)
    if write and connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {timeout_ms}")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})")


def _use_wal(engine: Engine) -> None:
    # The switch does not wait for other connections as a statement does, so it is tried again.
    until = time.monotonic() + 10.0
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        while True:
            try:
                if raw is not None and raw.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                    raw.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise MetadataError(
                        f"the metadata database cannot be set up: {error}", place=str(engine.url)
                    ) from error
                time.sleep(0.02)
