"""The database itself: migrations, agreement of code and tables, writers at once, and one clear error each."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from mlflow_core.config import Principal, SystemClock
from mlflow_core.errors import MetadataError
from mlflow_core.metadata import MetadataStore, check, upgrade
from mlflow_core.metadata.database import Database
from mlflow_core.metadata.tables import Table
from mlflow_core.metadata.upgrade import MIGRATIONS, revisions

ME = Principal("ada")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """SQLite only: what is looked at here is the file."""
    return f"sqlite:///{tmp_path}/.mlcore/metadata.db"


def open_store(url: str, busy_timeout_s: float = 30.0) -> MetadataStore:
    return MetadataStore(url, SystemClock(), ME, busy_timeout_s=busy_timeout_s)


def file_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def test_an_empty_place_gets_its_tables_and_looking_makes_none(url: str) -> None:
    assert check(url).state == "empty"
    assert not file_of(url).exists()
    assert upgrade(url).state == "empty"
    assert check(url).state == "current"
    assert upgrade(url).state == "current"
    open_store(url).close()


def test_the_migrations_and_the_models_agree(url: str) -> None:
    upgrade(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": "mlcore_version", "compare_type": True}
        )
        assert compare_metadata(context, Table.metadata) == []
        names = set(inspect(connection).get_table_names())
    engine.dispose()
    assert names == {table.name for table in Table.metadata.sorted_tables} | {"mlcore_version"}
    assert all(name.startswith("mlcore_") for name in names)


def test_the_revisions_that_are_counted_are_those_that_alembic_knows() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [revisions()[-1]]
    assert sorted(r.revision for r in script.walk_revisions()) == list(revisions())


def test_sqlite_is_set_up_for_several_writers(url: str) -> None:
    open_store(url).close()
    with contextlib.closing(sqlite3.connect(file_of(url))) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_foreign_keys_are_enforced(url: str) -> None:
    database = Database(url)
    upgrade(url)
    with pytest.raises(MetadataError, match="FOREIGN KEY constraint failed"), database.writing() as session:
        session.execute(text("INSERT INTO mlcore_params VALUES ('no run', 'depth', '6')"))
    database.close()


def test_it_works_beside_other_tables_of_the_same_names(url: str) -> None:
    file_of(url).parent.mkdir()
    with contextlib.closing(sqlite3.connect(file_of(url))) as raw, raw:
        raw.execute("CREATE TABLE projects (project_id TEXT)")
        raw.execute("CREATE TABLE alembic_version (version_num TEXT)")
        raw.execute("INSERT INTO alembic_version VALUES ('mlflow')")
    with open_store(url) as store:
        assert store.create_run("late").state == "running"


def test_a_database_newer_than_the_code_is_left_alone(url: str) -> None:
    upgrade(url)
    with contextlib.closing(sqlite3.connect(file_of(url))) as raw, raw:
        raw.execute("UPDATE mlcore_version SET version_num = '9999'")
    before = file_of(url).read_bytes()
    assert check(url).state == "newer"
    for act in (upgrade, open_store):
        with pytest.raises(MetadataError, match=r"newer than this code.*9999.*Install the newer mlflow-core"):
            act(url)
    assert file_of(url).read_bytes() == before


def test_a_failed_migration_leaves_what_was_there(url: str) -> None:
    file_of(url).parent.mkdir()
    with contextlib.closing(sqlite3.connect(file_of(url))) as raw, raw:
        raw.execute("CREATE TABLE mlcore_alerts (mine TEXT)")
    with pytest.raises(MetadataError, match="mlcore_alerts already exists"):
        upgrade(url)
    with contextlib.closing(sqlite3.connect(file_of(url))) as raw:
        assert raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [
            ("mlcore_alerts",)
        ]


def test_a_locked_database_is_told_after_the_waiting_time_and_reading_goes_on(url: str) -> None:
    with (
        open_store(url, busy_timeout_s=0.2) as store,
        contextlib.closing(sqlite3.connect(file_of(url))) as raw,
    ):
        raw.isolation_level = None
        raw.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        with pytest.raises(MetadataError, match=r"is locked by another process.*Wait"):
            store.create_run("late")
        assert 0.1 < time.monotonic() - start < 5
        assert store.list_runs() == []
        raw.execute("ROLLBACK")
        assert store.create_run("late").state == "running"


def test_a_read_only_database_can_be_read_and_says_so_when_written(url: str) -> None:
    with open_store(url) as store:
        run = store.create_run("late")
        with open_store(f"sqlite:///file:{file_of(url)}?mode=ro&uri=true") as read_only:
            assert read_only.get_run(run.id) == run
            with pytest.raises(MetadataError, match="is read-only"):
                read_only.create_run("late")


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, not a database " * 50)
    with pytest.raises(MetadataError, match=r"notes\.txt.*is not an SQLite database"):
        open_store(f"sqlite:///{path}")
    assert path.read_text().startswith("these are my notes")


def test_a_place_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(MetadataError, match=r"folder cannot be created|cannot be opened"):
        open_store(f"sqlite:///{tmp_path}/file/metadata.db")
    with pytest.raises(MetadataError, match="cannot be opened"):
        open_store(f"sqlite:///{tmp_path}")
    with pytest.raises(MetadataError, match="not one that SQLAlchemy reads"):
        open_store("metadata.db")
    with pytest.raises(MetadataError, match="driver of nosuch is not installed"):
        open_store("nosuch://x")


def test_the_tables_can_be_made_on_postgresql_and_no_name_is_too_long_for_it() -> None:
    dialect = postgresql.dialect()
    for table in Table.metadata.sorted_tables:
        assert table.name in str(CreateTable(table).compile(dialect=dialect))
        names = [part.name for part in (*table.constraints, *table.indexes) if part.name]
        assert all(len(str(name)) <= 63 for name in names)


def test_a_bare_postgresql_url_takes_the_driver_of_our_extra() -> None:
    if find_spec("psycopg") is None:
        with pytest.raises(
            MetadataError, match=r"postgresql\+psycopg is not installed.*mlflow-core\[postgres\]"
        ):
            open_store("postgresql://ml@127.0.0.1:1/ml")
    else:
        with pytest.raises(MetadataError, match="connection"):
            open_store("postgresql://ml@127.0.0.1:1/ml")


def test_a_password_is_never_in_an_error() -> None:
    with pytest.raises(MetadataError) as caught:
        open_store("nosuch://ml:tiger-42@db/ml")
    assert "tiger-42" not in str(caught.value)
    assert "ml:***@db" in str(caught.value)


@pytest.mark.parametrize("password", ["tig@er-42", "tig@er:42"])
def test_a_piece_of_a_password_that_was_not_quoted_is_never_in_an_error(password: str) -> None:
    with pytest.raises(MetadataError, match=r"written as %2F, %40 and %3A") as caught:
        open_store(f"postgresql://ml:{password}@db/ml")
    assert "er" not in str(caught.value).partition("Expected")[0]
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


FULL_DISK = """
import resource, sys
from mlflow_core.config import Principal, SystemClock
from mlflow_core.errors import MetadataError
from mlflow_core.metadata import MetadataStore, Metric
store = MetadataStore(sys.argv[1], SystemClock(), Principal("ada"))
run = store.create_run("late")
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    store.log_metrics(run.id, [Metric("m" * 200 + str(i), 1.0) for i in range(20_000)])
except MetadataError as error:
    print("refused:", error)
print("kept", len(store.get_metrics(run.id)), store.get_run(run.id).state)
"""


def test_a_full_disk_is_told_and_loses_nothing(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, url], capture_output=True, text=True, check=True, timeout=120
    )
    assert "refused:" in done.stdout, done.stderr
    assert "disk" in done.stdout
    assert "kept 0 running" in done.stdout
    with open_store(url) as store:
        assert store.create_run("late").state == "running"
        assert len(store.list_runs()) == 2


def test_threads_share_one_store(url: str) -> None:
    with open_store(url) as store:
        threads = [
            threading.Thread(target=lambda: [store.create_run("late") for _ in range(10)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store.list_runs()) == 40


WRITER = """
import sys
from mlflow_core.config import Principal, SystemClock
from mlflow_core.metadata import MetadataStore
store = MetadataStore(sys.argv[1], SystemClock(), Principal("ada"))
while True:
    print(store.record_audit("test", "thing").seq, flush=True)
"""


@pytest.mark.chaos
def test_a_writer_that_is_killed_leaves_every_finished_row_and_a_whole_chain(url: str) -> None:
    upgrade(url)
    with subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        seen = [int(writer.stdout.readline()) for _ in range(30)]
        os.kill(writer.pid, signal.SIGKILL)
        seen += [int(line) for line in writer.stdout if line.strip().isdigit()]
    with open_store(url) as store:
        report = store.audit_verify()
        assert report.ok, report.problems
        assert report.rows >= max(seen)
        store.record_audit("test", "after")
