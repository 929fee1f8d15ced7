"""A database as one file, and back again. A file that was not read back whole is never called a backup.

SQLite's own online backup copies while others write; PostgreSQL's own programs do the same for its server, for our
tables only, since Feast and MLflow may live in the same database.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlflow_core.errors import MetadataError
from mlflow_core.metadata.database import Database
from mlflow_core.metadata.health import examine, examine_database
from mlflow_core.metadata.upgrade import SchemaState, check, check_database, too_new

__all__ = ["Backup", "backup", "restore"]

_OUR_TABLES: Final = "mlcore_*"
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
        MetadataError: The database has no tables of ours, is damaged, or cannot be read; the file is there already or
            cannot be written; PostgreSQL's programs are not there, or older than the server.
    """
    if file.exists() and not overwrite:
        raise MetadataError("is there already", place=str(file), hint="Name another file, or say --yes.")
    database = Database(url)
    try:
        state = check_database(database)
        if state.state == "empty":
            raise MetadataError("has no tables of ours: there is nothing to keep", place=database.shown)
        draft = file.with_name(f"{file.name}.partial")
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


def restore(url: str, file: Path, *, overwrite: bool = False) -> SchemaState:
    """Put a backup in the place of a database.

    Args:
        url: SQLAlchemy's url of the database that is filled. An SQLite file is replaced whole; of a PostgreSQL
            database only our tables.
        file: What :func:`backup` wrote, from the same kind of database.
        overwrite: Also where there are tables of ours already, which are lost.

    Returns:
        How the database stands to this code now.

    Raises:
        MetadataError: The file is no backup of this kind of database, damaged, or newer than this code; the database
            is not empty; PostgreSQL's programs are not there. The database is then as it was.
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
        (_fill_sqlite if _is_sqlite(database) else _load)(database, file)
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


def _copy_sqlite(database: Database, draft: Path) -> None:
    draft.unlink(missing_ok=True)
    _copied(_file_of(database), draft, database.shown)
    with closing(sqlite3.connect(draft)) as made:
        # In WAL mode the file could not be read where nobody may write beside it.
        made.execute("PRAGMA journal_mode=DELETE")
    found = examine(f"sqlite:///{draft}")
    if found.problems:
        raise MetadataError(
            f"the copy is not whole: {found.problems[0]}", place=database.shown, hint="Run: mlcore db check"
        )


def _fill_sqlite(database: Database, file: Path) -> None:
    state = check(f"sqlite:///{file}")
    if state.state == "empty":
        raise MetadataError("holds no tables of ours", place=str(file))
    if state.state == "newer":
        raise too_new(state, database)
    damaged = examine(f"sqlite:///{file}").problems
    if damaged:
        raise MetadataError(f"is damaged: {damaged[0]}", place=str(file))
    database.make_ready()
    database.close()
    _copied(file, _file_of(database), database.shown)
    database.make_ready()


def _file_of(database: Database) -> Path:
    if database.file is None:
        raise MetadataError("is no file", place=database.shown, expected="sqlite:///PATH")
    return database.file


def _copied(source: Path, target: Path, shown: str) -> None:
    try:
        with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as written:
            read.backup(written)
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
        f"--table={_OUR_TABLES}",
        f"--file={draft}",
    ]
    _run(database, "pg_dump", [*options, f"--dbname={_address(database)}"])
    _run(database, "pg_restore", ["--list", str(draft)])


def _load(database: Database, file: Path) -> None:
    options = [
        "--clean",
        "--if-exists",
        "--no-owner",
        "--no-privileges",
        "--single-transaction",
        "--exit-on-error",
    ]
    _run(database, "pg_restore", [*options, f"--dbname={_address(database)}", str(file)])


def _address(database: Database) -> str:
    # The password goes through the environment: an argument is what every user of the machine can read.
    plain = database.url.set(drivername="postgresql", password=None)
    return plain.render_as_string(hide_password=False)


def _run(database: Database, program: str, arguments: Sequence[str]) -> None:
    found = shutil.which(program) or _newest_installed(program)
    if found is None:
        raise MetadataError(
            f"{program} is not installed here, and only PostgreSQL's own programs can do this",
            place=database.shown,
            hint="Install postgresql-client of the server's version or a newer one.",
        )
    password = database.url.password
    environ = {**os.environ, **({"PGPASSWORD": str(password)} if password else {})}
    done = subprocess.run([found, *arguments], env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"it ended with {done.returncode}"
        raise MetadataError(f"{program} failed: {said}", place=database.shown)


def _newest_installed(program: str) -> str | None:
    """Debian keeps the programs of each version below a folder of its own."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda path: path.parts[-3])
    return str(versions[-1]) if versions else None
