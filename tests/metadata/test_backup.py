"""Backups are whole or not there; damage is found; restoring destroys nothing unasked."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from mlflow_core.config import Principal
from mlflow_core.errors import MetadataError
from mlflow_core.metadata import MetadataStore, upgrade
from mlflow_core.metadata.backup import _address, _run, backup, restore
from mlflow_core.metadata.database import Database
from mlflow_core.metadata.health import examine
from mlflow_core.metadata.upgrade import revisions
from tests.metadata.conftest import HandClock, Raw, told
from tests.metadata.test_migrations import at_revision


def with_rows(store: MetadataStore) -> str:
    run = store.create_run("late", tags={"text": "é"})
    store.log_metrics(run.id, {"auc": 0.7})
    store.register_model_version("late", run.id, "sha256:a", alias="champion", why="first")
    return run.id


def test_a_backup_restored_elsewhere_is_the_same_database(
    store: MetadataStore, url: str, empty_url: str, clock: HandClock, tmp_path: Path
) -> None:
    run_id = with_rows(store)
    head = store.audit_verify().head_hash
    made = backup(url, tmp_path / "kept" / "monday")
    assert (made.file.stat().st_size, made.revision) == (made.size, revisions()[-1])
    assert [path.name for path in made.file.parent.iterdir()] == ["monday"]

    assert restore(empty_url, made.file).state == "current"

    with MetadataStore(empty_url, clock, Principal("bob"), project="flights") as other:
        assert other.get_run(run_id) == store.get_run(run_id)
        assert other.aliases("late") == {"champion": 1}
        assert other.audit_verify().head_hash == head
        other.create_run("late")  # numbers go on, too
        other.register_model_version("late", None, "sha256:b")
    assert examine(empty_url).ok


def test_a_backup_is_made_while_others_write_and_holds_a_moment(
    store: MetadataStore, url: str, empty_url: str, tmp_path: Path
) -> None:
    stop, errors = threading.Event(), []

    def write() -> None:
        try:
            while not stop.is_set():
                with_rows(store)
        except MetadataError as error:
            errors.append(error)

    with_rows(store)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = backup(url, tmp_path / "kept")
    finally:
        stop.set()
        writer.join()
    assert errors == []
    restore(empty_url, made.file)
    health = examine(empty_url)
    assert health.ok, health.problems
    assert health.audit is not None
    assert health.audit.rows >= 1


def test_a_file_that_is_there_and_a_full_database_are_left_alone_unless_asked(
    store: MetadataStore, url: str, tmp_path: Path
) -> None:
    run_id = with_rows(store)
    file = tmp_path / "kept"
    backup(url, file)
    content = file.read_bytes()
    with pytest.raises(MetadataError, match=r"is there already.*--yes"):
        backup(url, file)
    assert file.read_bytes() == content
    later = store.create_run("later")
    with pytest.raises(MetadataError, match=r"holds tables of ours already.*--yes"):
        restore(url, file)
    assert store.get_run(later.id) == later
    store.close()
    assert restore(url, file, overwrite=True).state == "current"
    assert [run.id for run in store.list_runs()] == [run_id]
    assert backup(url, file, overwrite=True).size == file.stat().st_size


def test_nothing_is_no_backup_and_what_is_none_restores_nothing(empty_url: str, tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match="nothing to keep"):
        backup(empty_url, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
    notes = tmp_path / "notes.txt"
    notes.write_text("not a database")
    with pytest.raises(MetadataError, match=r"notes\.txt.*is no backup"):
        restore(empty_url, notes)
    with pytest.raises(MetadataError, match="cannot be read"):
        restore(empty_url, tmp_path / "nowhere")
    assert examine(empty_url).schema.state == "empty"


def test_a_damaged_backup_changes_nothing(store: MetadataStore, url: str, tmp_path: Path) -> None:
    run_id = with_rows(store)
    file = tmp_path / "kept"
    backup(url, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MetadataError):
        restore(url, file, overwrite=True)
    assert store.get_run(run_id).pipeline == "late"
    assert examine(url).ok


def test_a_backup_of_an_earlier_revision_takes_the_place_of_later_tables(
    store: MetadataStore, url: str, empty_url: str, clock: HandClock, tmp_path: Path
) -> None:
    at_revision(empty_url, "0002")
    file = backup(empty_url, tmp_path / "kept").file
    with_rows(store)
    store.close()
    assert restore(url, file, overwrite=True).revision == "0002"
    upgrade(url)
    assert examine(url).ok
    with MetadataStore(url, clock, Principal("ada"), project="flights") as again:
        assert again.list_runs() == []
        with_rows(again)


def test_a_backup_of_a_later_version_changes_nothing(
    store: MetadataStore, url: str, empty_url: str, tmp_path: Path
) -> None:
    run_id = with_rows(store)
    upgrade(empty_url)
    told(empty_url, "UPDATE mlcore_version SET version_num = '9999'")
    file = backup(empty_url, tmp_path / "kept").file
    with pytest.raises(MetadataError, match=r"kept.*newer than this code.*9999"):
        restore(url, file, overwrite=True)
    assert store.get_run(run_id).pipeline == "late"
    assert examine(url).ok


def test_a_database_is_no_backup_of_itself(store: MetadataStore, url: str, tmp_path: Path) -> None:
    if not url.startswith("sqlite"):
        pytest.skip("a PostgreSQL database is no file")
    with_rows(store)
    database = Path(url.removeprefix("sqlite:///"))
    link = tmp_path / "link"
    link.symlink_to(database)
    inode = database.stat().st_ino
    for file in (database, link):
        with pytest.raises(MetadataError, match="is the database itself"):
            backup(url, file, overwrite=True)
        with pytest.raises(MetadataError, match="is the database itself"):
            restore(url, file, overwrite=True)
    assert database.stat().st_ino == inode


def test_a_file_of_any_name_is_read_back(
    store: MetadataStore, url: str, empty_url: str, tmp_path: Path
) -> None:
    run_id = with_rows(store)
    made = backup(url, tmp_path / "monday?mode=ro#1%20.db")
    assert list(tmp_path.glob("monday*")) == [made.file]
    restore(empty_url, made.file)
    with MetadataStore(empty_url, HandClock(), Principal("bob"), project="flights") as other:
        assert other.get_run(run_id).id == run_id


def test_two_backups_into_one_file_do_not_mix(store: MetadataStore, url: str, tmp_path: Path) -> None:
    for _ in range(20):
        with_rows(store)
    file, errors = tmp_path / "kept", []

    def keep() -> None:
        try:
            for _ in range(5):
                backup(url, file, overwrite=True)
        except MetadataError as error:
            errors.append(error)

    both = [threading.Thread(target=keep) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert errors == []
    assert [path.name for path in tmp_path.glob("kept*")] == ["kept"]
    store.close()
    assert restore(url, file, overwrite=True).state == "current"
    assert examine(url).ok


def test_damaged_pages_of_an_earlier_revision_are_not_kept_over_a_good_backup(tmp_path: Path) -> None:
    url, file = f"sqlite:///{tmp_path}/metadata.db", tmp_path / "kept"
    at_revision(url, "0002")
    told(url, *(f"INSERT INTO mlcore_namespaces VALUES ({n}, 'team {n}', 0)" for n in range(400)))
    backup(url, file)
    good = file.read_bytes()
    told(url, "PRAGMA wal_checkpoint(TRUNCATE)")
    with sqlite3.connect(tmp_path / "metadata.db") as opened:
        [(page,)] = opened.execute("SELECT rootpage FROM sqlite_master WHERE name = 'mlcore_namespaces'")
    opened.close()
    content = bytearray((tmp_path / "metadata.db").read_bytes())
    content[(page - 1) * 4096 : (page - 1) * 4096 + 100] = b"\xff" * 100
    (tmp_path / "metadata.db").write_bytes(content)
    with pytest.raises(MetadataError, match=r"not whole|damaged"):
        backup(url, file, overwrite=True)
    assert file.read_bytes() == good


def test_restoring_waits_for_a_writer_only_so_long(store: MetadataStore, url: str, tmp_path: Path) -> None:
    run_id = with_rows(store)
    file = backup(url, tmp_path / "kept").file
    later = store.create_run("later")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as writer:
        writer.exec_driver_sql("BEGIN IMMEDIATE" if url.startswith("sqlite") else "BEGIN")
        writer.exec_driver_sql(f"UPDATE mlcore_runs SET seed = 1 WHERE id = '{run_id}'")
        with pytest.raises(MetadataError, match="lock"):
            restore(url, file, overwrite=True, wait_s=0.3)
        writer.exec_driver_sql("ROLLBACK")
    engine.dispose()
    assert store.get_run(later.id) == later


def test_a_broken_chain_is_found_and_not_kept_as_a_backup(
    store: MetadataStore, url: str, raw: Raw, tmp_path: Path
) -> None:
    with_rows(store)
    raw("UPDATE mlcore_audit SET details = 'x' WHERE seq = 1")
    found = examine(url)
    assert not found.ok
    assert found.problems == ("audit: row 1 was changed",)
    with pytest.raises(MetadataError, match=r"not whole.*row 1 was changed.*mlcore db check"):
        backup(url, tmp_path / "kept")
    assert list(tmp_path.glob("kept*")) == []


def test_rows_that_refer_to_nothing_are_found(store: MetadataStore, url: str, raw: Raw) -> None:
    run_id = with_rows(store)
    if url.startswith("postgresql"):
        raw("ALTER TABLE mlcore_metrics DROP CONSTRAINT fk_mlcore_metrics_run_id")
    raw(f"UPDATE mlcore_metrics SET run_id = 'gone' WHERE run_id = '{run_id}'")
    assert examine(url).problems == ("1 row(s) of mlcore_metrics refer by run_id to nothing",)


def test_missing_tables_and_columns_are_named(store: MetadataStore, url: str, raw: Raw) -> None:
    raw("DROP TABLE mlcore_trials", "ALTER TABLE mlcore_runs DROP COLUMN seed")
    assert examine(url).problems == ("column mlcore_runs.seed is missing", "table mlcore_trials is missing")


def test_damaged_pages_are_found(store: MetadataStore, url: str) -> None:
    if not url.startswith("sqlite"):
        pytest.skip("PostgreSQL looks at its pages itself")
    for _ in range(20):
        with_rows(store)
    store.close()
    told(url, "PRAGMA wal_checkpoint(TRUNCATE)")
    file = Path(url.removeprefix("sqlite:///"))
    content = bytearray(file.read_bytes())
    for start in range(8 * 4096, len(content), 4096):
        content[start : start + 100] = b"\xff" * 100
    file.write_bytes(content)
    with pytest.raises(MetadataError, match="damaged"):
        examine(url)


def test_without_the_programs_of_postgresql_it_says_what_to_install(
    store: MetadataStore, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url.startswith("sqlite"):
        pytest.skip("SQLite needs none")
    import mlflow_core.metadata.backup as room

    monkeypatch.setattr(room.shutil, "which", lambda _: None)
    monkeypatch.setattr(room, "_newest_installed", lambda _: None)
    with pytest.raises(MetadataError, match=r"pg_dump is not installed.*postgresql-client"):
        backup(url, tmp_path / "kept")


def test_no_password_is_among_the_arguments_of_the_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told_to = tmp_path / "pg_restore"
    told_to.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\necho "$PGPASSWORD" > {tmp_path}/password\nexit 1\n'
    )
    told_to.chmod(0o755)
    (tmp_path / "pg_dump").symlink_to(told_to)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for url in (
        "postgresql://ada:geheim@nowhere/n",
        "postgresql://ada@nowhere/n?password=geheim&sslmode=require",
    ):
        database = Database(url)
        assert "geheim" not in database.shown
        with pytest.raises(MetadataError, match="pg_dump failed"):
            _run(database, "pg_dump", [f"--dbname={_address(database)}"])
        database.close()
        assert "geheim" not in (tmp_path / "arguments").read_text()
        assert "nowhere" in (tmp_path / "arguments").read_text()
        assert (tmp_path / "password").read_text() == "geheim\n"
