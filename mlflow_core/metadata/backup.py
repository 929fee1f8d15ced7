"""A database as one file, and back again. A file that was not read back whole is never called a backup.

SQLite's own online backup copies while others write; PostgreSQL's own programs do the same for its server, for our
tables only, since Feast and MLflow may live in the same database.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import inspect

from mlflow_core.errors import MetadataError
from mlflow_core.metadata.database import SECRET_OPTIONS, WRITERS_LOCK, Database
from mlflow_core.metadata.health import examine_database, examine_file
from mlflow_core.metadata.tables.orm import VERSION_TABLE
from mlflow_core.metadata.upgrade import SchemaState, check_database, state_of, too_new

__all__ = ["Backup", "backup", "restore"]

_OUR_PREFIX: Final = "mlcore_"
_SQLITE_MARK: Final = b"SQLite format 3\x00"
_DUMP_MARK: Final = b"PGDMP"


@dataclass(frozen=True)
class Backup:
    """A backup that was read back: its file, how many bytes it has, and the revision of its tables."""

    file: Path
    size: int
    revision: str | None


def backup(url: str, file: Path, *, overwrite: bool = False) -> Backup:
    """Write a database into one file while others go on using it.

    Args:
        url: SQLAlchemy's url.
        file: Where to. It is there whole or not at all.
        overwrite: Replace a file that is there.

    Raises:
        MetadataError: The database has no tables of ours, is damaged, or cannot be read; the file is there already, is
            the database itself, or cannot be written; PostgreSQL's programs are not there, or older than the server.
    """
    if file.exists() and not overwrite:
        raise MetadataError("is there already", place=str(file), hint="Name another file, or say --yes.")
    database = Database(url)
    try:
        state = check_database(database)
        if state.state == "empty":
            raise MetadataError("has no tables of ours: there is nothing to keep", place=database.shown)
        _must_differ(database, file)
        # Of its own for each process: what another one is still writing must not be taken for whole.
        draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}.partial")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            (_copy_sqlite if _is_sqlite(database) else _dump)(database, draft)
            draft.replace(file)
        except OSError as error:
            raise MetadataError(f"cannot be written: {error.strerror}", place=str(file)) from error
        finally:
            draft.unlink(missing_ok=True)
        return Backup(file, file.stat().st_size, state.revision)
    finally:
        database.close()


def restore(url: str, file: Path, *, overwrite: bool = False, wait_s: float = 30.0) -> SchemaState:
    """Put a backup in the place of a database.

    Args:
        url: SQLAlchemy's url of the database that is filled. An SQLite file is replaced whole; of a PostgreSQL
            database only our tables.
        file: What :func:`backup` wrote, from the same kind of database.
        overwrite: Also where there are tables of ours already, which are lost.
        wait_s: How long to wait for those who write to the database.

    Returns:
        How the database stands to this code now.

    Raises:
        MetadataError: The file is no backup of this kind of database, damaged, or newer than this code; the database
            is not empty or stays locked; PostgreSQL's programs are not there. The database is then as it was.
    """
    database = Database(url)
    try:
        _check_kind(database, file)
        if check_database(database).state != "empty" and not overwrite:
            raise MetadataError(
                "holds tables of ours already, which a restored backup would replace",
                place=database.shown,
                hint="Say --yes if they may be lost; mlcore db backup keeps them.",
            )
        _must_differ(database, file)
        (_fill_sqlite if _is_sqlite(database) else _load)(database, file, wait_s)
        return check_database(database)
    finally:
        database.close()


def _is_sqlite(database: Database) -> bool:
    return database.url.get_backend_name() == "sqlite"


def _check_kind(database: Database, file: Path) -> None:
    try:
        with file.open("rb") as opened:
            mark = opened.read(len(_SQLITE_MARK))
    except OSError as error:
        raise MetadataError(f"cannot be read: {error.strerror}", place=str(file)) from error
    wanted, kind = (_SQLITE_MARK, "an SQLite") if _is_sqlite(database) else (_DUMP_MARK, "a PostgreSQL")
    if not mark.startswith(wanted):
        raise MetadataError(
            f"is no backup of {kind} database", place=str(file), expected="a file of: mlcore db backup"
        )


def _must_differ(database: Database, file: Path) -> None:
    if (
        database.file is not None
        and file.exists()
        and database.file.exists()
        and file.samefile(database.file)
    ):
        raise MetadataError("is the database itself", place=str(file), expected="another file")


def _copy_sqlite(database: Database, draft: Path) -> None:
    _copied(_file_of(database), draft, database.shown)
    with closing(sqlite3.connect(draft)) as made:
        # In WAL mode the file could not be read where nobody may write beside it.
        made.execute("PRAGMA journal_mode=DELETE")
    found = examine_file(draft)
    if found.problems:
        raise MetadataError(
            f"the copy is not whole: {found.problems[0]}", place=database.shown, hint="Run: mlcore db check"
        )


def _fill_sqlite(database: Database, file: Path, wait_s: float) -> None:
    found = examine_file(file)
    _must_be_ours(found.schema, file)
    if found.problems:
        raise MetadataError(f"is damaged: {found.problems[0]}", place=str(file))
    database.make_ready()
    database.close()
    _copied(file, _file_of(database), database.shown, wait_s)
    database.make_ready()


def _must_be_ours(state: SchemaState, file: Path) -> None:
    if state.state == "empty":
        raise MetadataError("holds no tables of ours", place=str(file))
    if state.state == "newer":
        raise too_new(state, str(file))


def _file_of(database: Database) -> Path:
    if database.file is None:
        raise MetadataError("is no file", place=database.shown, expected="sqlite:///PATH")
    return database.file


def _copied(source: Path, target: Path, shown: str, wait_s: float = 30.0) -> None:
    until = time.monotonic() + wait_s

    def go_on(status: int, _left: int, _all: int) -> None:
        # By itself a copy waits for ever for a writer that does not end.
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > until:
            raise MetadataError(
                "the metadata database is locked by another process",
                place=shown,
                hint="Wait for the other command to end, then try again.",
            )

    try:
        with (
            closing(sqlite3.connect(source, timeout=wait_s)) as read,
            closing(sqlite3.connect(target, timeout=0.1)) as written,
        ):
            read.backup(written, progress=go_on, sleep=0.05)
    except sqlite3.Error as error:
        raise MetadataError(f"cannot be copied: {error}", place=shown) from error


def _dump(database: Database, draft: Path) -> None:
    found = examine_database(database)
    if found.problems:
        raise MetadataError(
            f"is not whole: {found.problems[0]}", place=database.shown, hint="Run: mlcore db check"
        )
    options = [
        "--format=custom",
        "--no-owner",
        "--no-privileges",
        "--no-password",
        f"--table={_OUR_PREFIX}*",
        f"--file={draft}",
    ]
    _run(database, "pg_dump", [*options, f"--dbname={_address(database)}"])
    _run(database, "pg_restore", ["--list", str(draft)])


def _load(database: Database, file: Path, wait_s: float) -> None:
    _must_be_ours(state_of(_revision_kept(database, file)), file)
    with tempfile.TemporaryDirectory(prefix="mlcore-restore-") as folder:
        script = Path(folder) / "tables.sql"
        _run(database, "pg_restore", ["--no-owner", "--no-privileges", f"--file={script}", str(file)])
        # pg_restore would take away only what is in the backup: tables of a later revision would stand in its way.
        first = [
            f"SET lock_timeout = {int(wait_s * 1_000)}",
            f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})",
            *_dropping(database),
        ]
        options = ["--no-psqlrc", "--quiet", "--no-password", "--single-transaction", "--set=ON_ERROR_STOP=1"]
        commands = [f"--command={statement}" for statement in first]
        _run(database, "psql", [*options, *commands, f"--file={script}", f"--dbname={_address(database)}"])


def _revision_kept(database: Database, file: Path) -> str | None:
    """The revision of a dump: the one row of one table."""
    options = ["--data-only", f"--table={VERSION_TABLE}", "--file=-"]
    lines = iter(_run(database, "pg_restore", [*options, str(file)]).splitlines())
    for line in lines:
        if line.startswith("COPY "):
            return next(lines, None)
    return None


def _dropping(database: Database) -> list[str]:
    """All our tables at once, since they refer to each other; what others made of them is in the way, and stays."""
    with database.connecting(write=False) as connection:
        ours = [name for name in inspect(connection).get_table_names() if name.startswith(_OUR_PREFIX)]
    return [f"DROP TABLE {', '.join(ours)}"] if ours else []


def _address(database: Database) -> str:
    # The password goes through the environment: an argument is what every user of the machine can read.
    # URL.set would take None for "leave it as it is".
    plain = database.url._replace(drivername="postgresql", password=None)
    plain = plain.difference_update_query(SECRET_OPTIONS)
    return plain.render_as_string(hide_password=False)


def _run(database: Database, program: str, arguments: Sequence[str]) -> str:
    found = shutil.which(program) or _newest_installed(program)
    if found is None:
        raise MetadataError(
            f"{program} is not installed here, and only PostgreSQL's own programs can do this",
            place=database.shown,
            hint="Install postgresql-client of the server's version or a newer one.",
        )
    password = database.url.password or database.url.query.get("password")
    environ = {**os.environ, **({"PGPASSWORD": str(password)} if password else {})}
    done = subprocess.run([found, *arguments], env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"it ended with {done.returncode}"
        raise MetadataError(f"{program} failed: {said}", place=database.shown)
    return done.stdout


def _newest_installed(program: str) -> str | None:
    """Debian keeps the programs of each version below a folder of its own."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda path: path.parts[-3])
    return str(versions[-1]) if versions else None
