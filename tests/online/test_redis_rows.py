"""What Redis holds after rows were written, erased and dropped, and processes that share a backend."""

from __future__ import annotations

import asyncio
import multiprocessing
import struct

import pytest

from mlflow_core.config.clock import FixedClock
from mlflow_core.online.backend import Ask, OnlineTable
from mlflow_core.online.redis.backend import RedisBackend
from mlflow_core.testing.online_contract import packed, stored
from tests.online.asking import ask, read_async
from tests.servers.redis import redis_server

V, W = OnlineTable("v", ("id",)), OnlineTable("w", ("id",))


@pytest.fixture(scope="module")
def server():
    with redis_server() as started:
        yield started


@pytest.fixture
def opened(server):
    """Open backends of an empty server, which are closed after the test."""
    server.flush()
    backends = []

    def open_backend(project="p"):
        backends.append(RedisBackend(server.url, project, FixedClock(1_000)))
        return backends[-1]

    yield open_backend
    for backend in backends:
        backend.close()


@pytest.fixture
def backend(opened):
    return opened()


def test_values_of_any_size_and_bytes_are_kept(backend):
    values = [packed(1, 0, "") + bytes(range(256)) * n for n in (0, 1, 100, 40_000)]
    rows = [(b"\x00\xff\r\n%d" % i, value) for i, value in enumerate(values)]
    assert backend.write(V, rows) == 4
    assert backend.read(ask(*(key for key, _ in rows))) == [[[value] for value in values]]


def test_of_two_rows_with_one_key_in_a_batch_the_greater_version_counts_once(backend):
    rows = [
        stored(b"k", 2),
        stored(b"k", 3),
        stored(b"k", 1),
        stored(b"l", 1),
        stored(b"k", 3, payload="tie"),
    ]
    assert backend.write(V, rows) == 2
    assert backend.read(ask(b"k")) == [[[rows[4][1]]]], "of equal versions in one batch the later row counts"


def test_an_earlier_boundary_does_not_hide_a_later_one(backend):
    backend.begin(V, 300)
    backend.begin(V, -200)
    assert backend.unfinished() == {"v": 300}
    backend.begin(W, -(2**63))
    backend.finish(V, 300)
    assert backend.unfinished() == {"w": -(2**63)}


def test_drop_leaves_what_is_not_the_projects(backend, opened, server):
    """Another project, and whatever else lives in the database; all of ours goes, also under former key columns."""
    theirs = opened("p2")
    theirs.write(V, [stored(b"k", 1)])
    with server.client() as client:
        client.set("mlc", "x")
        client.set("mlc:pq:id:k", "x")
        before = set(client.keys())
        rows = [stored(b"%d" % i, 1) for i in range(3_000)]
        backend.write(V, rows)
        backend.write(W, rows[:10])
        backend.write(OnlineTable("v", ("former", "columns")), rows)
        backend.erase([Ask(("only", "erased"), ("v",), [b"k"])])
        backend.drop(["v"])
        assert backend.read(ask(b"3", views=("v", "w"))) == [[[None, rows[3][1]]]]
        assert len(client.keys()) == len(before) + 10 + 1
        backend.drop([])
        assert len(client.keys()) == len(before) + 10 + 1
        backend.drop()
        assert set(client.keys()) == before


def test_a_forked_process_and_its_parent_do_not_share_connections(backend):
    backend.write(V, [stored(b"%d" % i, i) for i in range(100)])

    def check(failures):
        for i in range(300):
            if backend.read(ask(b"%d" % (i % 100))) != [[[stored(b"%d" % (i % 100), i % 100)[1]]]]:
                failures.put(i)
        if read_async(backend, ask(b"1")) != [[[stored(b"1", 1)[1]]]]:
            failures.put("async")
        backend.close()
        failures.put(None)

    async def body():
        await backend.read_async(ask(b"1"))
        context = multiprocessing.get_context("fork")
        failures = context.SimpleQueue()
        child = context.Process(target=check, args=(failures,))
        child.start()
        for _ in range(300):
            assert await backend.read_async(ask(b"5")) == backend.read(ask(b"5")) == [[[stored(b"5", 5)[1]]]]
        child.join()
        assert child.exitcode == 0
        assert failures.get() is None
        await backend.close_async()

    # A fork inside a running loop: in the child that loop never runs again, and its own thread starts another.
    asyncio.run(body())


def test_memory_of_an_entity(backend, server, record_property):
    """5 views of 10 doubles each: 5 values of 108 bytes."""
    tables = [OnlineTable(f"carrier_view_{i}", ("carrier",)) for i in range(5)]
    rows = [stored(b"\x01" + struct.pack(">q", i), 1, payload="x" * 82) for i in range(20_000)]
    with server.client() as client:
        before = client.info("memory")["used_memory"]
        for table in tables:
            assert backend.write(table, rows) == 20_000
        each = (client.info("memory")["used_memory"] - before) / 20_000
    record_property(
        "figures", f"Redis: {each:.0f} bytes an entity of 5 views x 10 doubles (540 of them values)"
    )
    assert each < 1_200
