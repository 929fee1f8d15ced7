"""What is PostgreSQL's own when all is well: one statement a read, processes, threads, locks, sizes, speed."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import time

import psycopg
import pytest

from mlflow_core.config.clock import FixedClock
from mlflow_core.errors import StoreError
from mlflow_core.online.backend import Ask, OnlineTable
from mlflow_core.online.head import version_of
from mlflow_core.online.postgres import PostgresBackend
from mlflow_core.testing.online_contract import packed, stored
from tests.online.beside import in_thread, until_waiting

V = OnlineTable("v", ("carrier",))
NEW = b"schema-B"


def ask(*keys: bytes, views: tuple[str, ...] = ("v",)) -> list[Ask]:
    return [Ask(V.keys, views, keys)]


def one(store: PostgresBackend, key: bytes) -> bytes | None:
    return store.read(ask(key))[0][0][0]


def test_a_read_of_any_keys_views_and_entities_is_one_statement(postgres, postgres_admin, open_postgres):
    store = open_postgres()
    tables = [OnlineTable(name, ("carrier",)) for name in "abcde"]
    routes = OnlineTable("routes", ("origin", "dest"))
    keys = [i.to_bytes(2, "big") for i in range(100)]
    for table in (*tables, routes):
        store.write(table, [stored(key, 5) for key in keys])
    store.close()
    postgres_admin.execute("ALTER ROLE mlcore SET log_statement = 'all'")
    try:
        asks = [Ask(("carrier",), tuple("abcde"), keys), Ask(routes.keys, ("routes", "unknown"), keys[:3])]
        before = store.read(asks)
        log = postgres.folder / "log"
        at = log.stat().st_size
        assert store.read(asks) == before
        said = [line for line in log.read_text()[at:].splitlines() if "LOG:  " in line]
    finally:
        postgres_admin.execute("ALTER ROLE mlcore RESET log_statement")
    assert list(before[0][7]) == [stored(keys[7], 5)[1]] * 5
    assert list(before[1][2]) == [stored(keys[2], 5)[1], None]
    assert len(said) == 1, said
    assert "LOG:  execute" in said[0]


def make_and_write(url: str, number: int, barrier) -> None:
    store = PostgresBackend(url, "p", FixedClock(0), timeout_s=30)
    barrier.wait()
    for moment in range(10):
        store.write(V, [stored(f"{number}".encode(), moment), stored(b"common", moment, number)])
    store.close()


def test_processes_that_make_the_schema_together_lose_no_write(postgres, open_postgres):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [context.Process(target=make_and_write, args=(postgres.url, i, barrier)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    found = open_postgres().read(ask(b"0", b"1", b"2", b"common"))[0]
    assert [version_of(row[0]) for row in found] == [(9, 0), (9, 0), (9, 0), (9, 2)]


def test_threads_that_write_the_same_keys_leave_the_greatest_version_of_each(open_postgres):
    keys = [i.to_bytes(2, "big") for i in range(300)]

    def write(number: int) -> None:
        rng = random.Random(20130101 + number)
        store = stores[number % 2]
        for moment in rng.sample(range(20), 20):
            batch = rng.sample(keys, len(keys))
            store.write(V, [stored(key, moment, number) for key in batch])

    stores = [open_postgres(), open_postgres()]
    threads = [in_thread(write, number) for number in range(4)]
    for thread, _ in threads:
        thread.join()
    assert [results for _, results in threads] == [[None]] * 4
    assert {version_of(row[0]) for row in stores[0].read(ask(*keys))[0]} == {(19, 3)}


def test_a_deadlock_with_somebody_else_is_tried_again(postgres, postgres_admin, open_postgres):
    store = open_postgres()
    store.write(V, [stored(b"a", 5), stored(b"b", 5)])
    with psycopg.connect(postgres.url) as other:
        other.execute("SET deadlock_timeout = '60s'")  # so that ours is the one to be ended
        row = "SELECT FROM mlcore_online.rows WHERE key = %b FOR UPDATE"
        other.execute(row, (b"b",))
        thread, results = in_thread(store.write, V, [stored(b"b", 6), stored(b"a", 6)])
        until_waiting(postgres_admin)
        other.execute(row, (b"a",))
        other.commit()
    thread.join()
    assert results == [2]


def test_a_declaration_waits_for_rows_on_their_way_and_refuses_later_ones(
    postgres, postgres_admin, open_postgres
):
    store = open_postgres()
    store.write(V, [stored(b"k", 5)])
    with psycopg.connect(postgres.url) as other:
        other.execute("SELECT FROM mlcore_online.rows FOR UPDATE")
        writer, written = in_thread(store.write, V, [stored(b"k", 6)])
        until_waiting(postgres_admin)
        declarer, declared = in_thread(store.declare, V, NEW)
        until_waiting(postgres_admin, 2)
        late, refused = in_thread(store.write, V, [stored(b"k", 7)])
        until_waiting(postgres_admin, 3)
        assert declared == [], "the write before it holds the view's lock"
    for thread in (writer, declarer, late):
        thread.join()
    assert (written, declared) == ([1], [None])
    assert "definition that has been replaced" in str(refused[0])
    assert version_of(one(store, b"k")) == (6, 0)


def test_a_value_of_a_megabyte_comes_back_and_large_writes_are_all_or_nothing(postgres_admin, open_postgres):
    store = open_postgres()
    rows = [stored(bytes([i]), 5, payload=chr(97 + i) * 2**20) for i in range(40)]
    assert store.write(V, rows) == 40
    assert [row[0] for row in store.read(ask(*(key for key, _ in rows)))[0]] == [value for _, value in rows]
    postgres_admin.execute(
        "ALTER TABLE mlcore_online.rows ADD CHECK (key <> '\\x27' OR length(value) < 2500000)"
    )
    larger = [(key, packed(6, 0, "x" * 2**20)) for key, _ in rows[:-1]]
    with pytest.raises(StoreError, match="check constraint"):
        store.write(V, [*larger, (rows[-1][0], packed(6, 0, "x" * 3 * 2**20))])
    assert {version_of(row[0]) for row in store.read(ask(*(key for key, _ in rows)))[0]} == {(5, 0)}


def test_a_forked_process_opens_its_own_connections(open_postgres):
    store = open_postgres()
    store.write(V, [stored(b"k", 5)])
    child = os.fork()
    if child == 0:
        written = store.write(V, [stored(b"k", 6)])
        store.close()
        os._exit(0 if written == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert version_of(one(store, b"k")) == (6, 0)


def test_a_backend_travels_to_a_worker_with_its_settings(open_postgres):
    store = open_postgres(schema="elsewhere", timeout_s=3.0, connections=2)
    store.write(V, [stored(b"k", 5)])
    travelled = pickle.loads(pickle.dumps(store))
    assert one(travelled, b"k") == stored(b"k", 5)[1]
    settings = ("project", "clock", "timeout_s", "connections", "schema", "place")
    assert [getattr(travelled, name) for name in settings] == [getattr(store, name) for name in settings]
    travelled.close()


def test_what_a_killed_drop_left_behind_goes_with_the_next(postgres_admin, open_postgres):
    """Dropped rows are out of sight at once, and are removed some at a time."""
    store, other = open_postgres(), open_postgres("other")
    keys = [i.to_bytes(3, "big") for i in range(45_000)]
    store.write(V, [stored(key, 5) for key in keys])
    other.write(V, [stored(b"k", 5)])
    postgres_admin.execute(
        "WITH v AS (DELETE FROM mlcore_online.views WHERE project = 'p' RETURNING id) "
        "INSERT INTO mlcore_online.dropped SELECT id FROM v"
    )  # and here it was killed
    assert one(store, keys[0]) is None
    assert store.write(V, [stored(keys[0], 1)]) == 1
    other.drop(["unknown"])
    assert postgres_admin.execute("SELECT count(*) FROM mlcore_online.rows").fetchone() == (2,)
    assert postgres_admin.execute("SELECT count(*) FROM mlcore_online.dropped").fetchone() == (0,)
    assert version_of(one(store, keys[0])) == (1, 0)


def test_erasure_counts_values_only_and_numbers_no_view_twice(postgres_admin, open_postgres):
    store = open_postgres()
    store.write(V, [stored(b"k", 5), stored(b"l", 5)])
    asks = [
        Ask(V.keys, ("v", "w"), [b"k", b"k", b"new"]),
        Ask(V.keys, ("v",), [b"l"]),
        Ask(V.keys, ("x",), []),
    ]
    assert store.erase(asks) == 2
    assert store.erase(asks) == 0
    assert store.erase([]) == 0
    assert postgres_admin.execute("SELECT name, id FROM mlcore_online.views ORDER BY id").fetchall() == [
        ("v", 1),
        ("w", 2),
    ]


def test_writing_and_reading_are_fast_enough(postgres_admin, open_postgres, record_property):
    """Far below what is measured on a free machine, so that only a broken path fails here."""
    store = open_postgres()
    keys = [b"\x01" + i.to_bytes(8, "big") for i in random.Random(1).sample(range(2**40), 30_000)]
    tables = [OnlineTable(name, ("carrier",)) for name in "abcde"]
    begun = time.perf_counter()
    for moment, table in enumerate((*tables, tables[0])):
        store.write(table, [stored(key, moment, payload="x" * 82) for key in keys])
    rate = 6 * len(keys) / (time.perf_counter() - begun)
    rng, took = random.Random(2), {}
    for n_keys, views in ((1, "a"), (1, "abcde"), (10, "abcde"), (100, "abcde")):
        times = []
        for _ in range(100):
            asked = [Ask(("carrier",), tuple(views), rng.sample(keys, n_keys))]
            begun = time.perf_counter()
            found = store.read(asked)
            times.append(time.perf_counter() - begun)
            assert None not in {value for row in found[0] for value in row}
        took[n_keys, len(views)] = sorted(times)[50] * 1e6
    size = postgres_admin.execute("SELECT pg_total_relation_size('mlcore_online.rows')").fetchone()[0] / (
        6 * len(keys)
    )
    reads = ", ".join(f"{k} keys x {v} views {us:,.0f} us" for (k, v), us in took.items())
    record_property(
        "figures", f"{rate:,.0f} rows/s of 108 bytes, {size:.0f} bytes a row written; reads: {reads}"
    )
    assert rate > 10_000
    assert took[100, 5] < 30_000
