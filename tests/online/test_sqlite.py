"""What is SQLite's own: processes, files that cannot be used, one statement a read."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from mlflow_core.config.clock import FixedClock
from mlflow_core.errors import StoreError
from mlflow_core.online.backend import Ask, OnlineTable
from mlflow_core.online.sqlite import FILE_LAYOUT, SqliteBackend
from mlflow_core.testing.online_contract import packed, stored

ENTITY = ("carrier",)
V = OnlineTable("v", ENTITY)


def found(store: SqliteBackend, *keys: bytes) -> list[bytes | None]:
    """What view ``v`` has under the keys."""
    return [row[0] for row in store.read([Ask(ENTITY, ("v",), keys)])[0]]


@pytest.fixture
def open_store(tmp_path):
    opened = []

    def open_store(path: Path = tmp_path / "online.db", **options) -> SqliteBackend:
        opened.append(SqliteBackend(path, "p", FixedClock(1_000), **options))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


def write_many(path: Path, number: int, barrier) -> None:
    store = SqliteBackend(path, "p", FixedClock(0), timeout_s=30)
    barrier.wait()
    for time in range(25):
        store.write(V, [stored(f"{number}".encode(), time), stored(b"common", time, number)])
    store.close()


def test_processes_that_make_the_file_together_lose_no_write(tmp_path, open_store):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    path = tmp_path / "online.db"
    processes = [context.Process(target=write_many, args=(path, i, barrier)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    rows = dict([stored(b"0", 24), stored(b"1", 24), stored(b"2", 24), stored(b"common", 24, 2)])
    assert found(open_store(), *rows) == list(rows.values())


def test_a_backend_travels_to_a_worker_without_its_connections(open_store):
    store = open_store()
    store.write(V, [stored(b"k", 5)])
    travelled = pickle.loads(pickle.dumps(store))
    assert found(travelled, b"k") == [stored(b"k", 5)[1]]
    assert travelled.clock == store.clock
    travelled.close()


def test_a_forked_process_opens_its_own_connection(open_store):
    store = open_store()
    store.write(V, [stored(b"k", 5)])
    parents = store._mine()
    child = os.fork()
    if child == 0:
        ok = store._mine() is not parents and store.write(V, [stored(b"k", 6)]) == 1
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store._mine() is parents
    assert found(store, b"k") == [stored(b"k", 6)[1]]


def test_connections_of_ended_threads_are_closed(open_store):
    store = open_store()
    for _ in range(5):
        thread = threading.Thread(target=store.write, args=(V, [stored(b"k", 5)]))
        thread.start()
        thread.join()
    found(store, b"k")
    assert len(store._open) == 1


def test_several_views_are_read_in_one_statement(open_store):
    store = open_store()
    for view, entity in (("a", ENTITY), ("b", ENTITY), ("c", ("origin",))):
        store.write(OnlineTable(view, entity), [stored(b"k", 5)])
    statements = []
    store._mine().set_trace_callback(statements.append)
    both, other = store.read([Ask(ENTITY, ("a", "b"), [b"k", b"l"]), Ask(("origin",), ("c",), [b"k", b"l"])])
    store._mine().set_trace_callback(None)
    value = stored(b"k", 5)[1]
    assert [list(row) for row in both] == [[value, value], [None, None]]
    assert [list(row) for row in other] == [[value], [None]]
    assert len(statements) == 1


def test_a_file_that_another_process_keeps_locked_gives_one_clear_error(tmp_path, open_store):
    store = open_store(timeout_s=0.1)
    store.write(V, [stored(b"k", 5)])
    other = sqlite3.connect(tmp_path / "online.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"online\.db: .*database is locked.*Another process is writing"):
        store.write(V, [stored(b"k", 6)])
    assert found(store, b"k") == [stored(b"k", 5)[1]], "readers do not wait for a writer"
    other.execute("ROLLBACK")
    other.close()
    assert store.write(V, [stored(b"k", 6)]) == 1


@pytest.fixture
def open_to_all():
    """A folder that another user may enter; pytest keeps its own closed."""
    with tempfile.TemporaryDirectory(prefix="mlcore-read-only-") as name:
        yield Path(name)


def test_a_read_only_file_gives_one_clear_error_and_can_still_be_read(open_to_all, open_store, repository):
    folder = open_to_all
    store = open_store(folder / "online.db")
    store.write(V, [stored(b"k", 5)])
    script = f"""
import os
from mlflow_core.errors import StoreError
from mlflow_core.online.backend import Ask, OnlineTable
from mlflow_core.online.sqlite import SqliteBackend
from mlflow_core.testing.online_contract import stored
from tests.online.test_sqlite import V, found
if os.getuid() == 0:
    os.setuid(65534)  # a superuser may write everywhere
store = SqliteBackend({str(folder / "online.db")!r}, "p")
print(found(store, b"k") == [stored(b"k", 5)[1]])
try:
    store.write(V, [stored(b"k", 6)])
except StoreError as error:
    print(error)
"""
    (folder / "online.db").chmod(0o444)
    folder.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=repository, capture_output=True, text=True, check=False
    )
    folder.chmod(0o755)
    (folder / "online.db").chmod(0o644)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "True"
    assert "attempt to write a readonly database" in second
    assert "Make the file and its folder writable; nothing was changed." in second
    assert found(store, b"k") == [stored(b"k", 5)[1]]


def test_a_folder_that_cannot_be_made_gives_one_clear_error():
    with pytest.raises(StoreError, match=r"/proc/nothing/online\.db: the online store cannot be used"):
        SqliteBackend("/proc/nothing/online.db", "p").read([Ask(ENTITY, ("v",), [b"k"])])


def test_a_full_disk_gives_one_clear_error_and_leaves_what_was_there(tmp_path, open_store, repository):
    """The largest size a process may give a file stands in for the disk: SQLite meets a failing write alike."""
    path = tmp_path / "online.db"
    store = open_store(path)
    store.write(V, [stored(b"k", 5)])
    store.close()
    script = f"""
import resource
from mlflow_core.errors import StoreError
from mlflow_core.online.backend import Ask, OnlineTable
from mlflow_core.online.sqlite import SqliteBackend
from mlflow_core.testing.online_contract import stored
from tests.online.test_sqlite import V, found
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
store = SqliteBackend({str(path)!r}, "p")
try:
    store.write(V, [stored(i.to_bytes(4, "big"), 9, payload="x" * 500) for i in range(20_000)] + [stored(b"k", 6)])
except StoreError as error:
    print(error)
print(found(store, b"k", bytes(4)) == [stored(b"k", 5)[1], None])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    message, intact = done.stdout.splitlines()
    assert "the online store cannot be used" in message
    assert "nothing was changed" in message
    assert intact == "True"
    assert open_store(path).write(V, [stored(b"k", 6)]) == 1


def test_a_file_that_is_no_database_is_named(tmp_path, open_store):
    (tmp_path / "online.db").write_text("hello " * 1000)
    with pytest.raises(StoreError, match=r"online\.db.*file is not a database.*Name another file"):
        found(open_store(), b"k")
    assert (tmp_path / "online.db").read_text() == "hello " * 1000


def test_a_database_of_something_else_is_left_alone(tmp_path, open_store):
    with sqlite3.connect(tmp_path / "online.db") as other:
        other.execute("CREATE TABLE flights (id)")
    other.close()
    with pytest.raises(StoreError, match=r'something else .it has "flights".'):
        open_store().write(V, [stored(b"k", 5)])


def test_a_store_of_a_newer_layout_is_refused(tmp_path, open_store):
    store = open_store()
    store.write(V, [stored(b"k", 5)])
    store._mine().execute(f"PRAGMA user_version = {FILE_LAYOUT + 1}")
    store.close()
    with pytest.raises(
        StoreError, match=f"has layout {FILE_LAYOUT + 1}, this version knows {FILE_LAYOUT}.*Upgrade"
    ):
        found(open_store(), b"k")


def test_a_bulk_write_is_one_transaction(open_store):
    store = open_store()
    assert store.write(V, [stored(i.to_bytes(3, "big"), 1, payload="x") for i in range(5_000)]) == 5_000
    statements = []
    store._mine().set_trace_callback(statements.append)
    store.write(V, [stored(i.to_bytes(3, "big"), 2, payload="y") for i in range(5_000)])
    store._mine().set_trace_callback(None)
    assert statements.count("BEGIN IMMEDIATE") == statements.count("COMMIT") == 1
    assert found(store, bytes(3)) == [packed(2, 0, "y")]


def test_a_file_that_is_replaced_is_read_anew_and_one_that_has_gone_is_not_made_again(tmp_path, open_store):
    store, path = open_store(), tmp_path / "online.db"
    store.write(V, [stored(b"k", 5)])
    other = open_store(tmp_path / "restored.db")
    other.write(V, [stored(b"k", 7)])
    other.close()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    with pytest.raises(StoreError, match=r"online\.db: the online store has been removed.*Put the file back"):
        found(store, b"k")
    assert not path.exists()
    (tmp_path / "restored.db").rename(path)
    assert found(store, b"k") == [stored(b"k", 7)[1]]
