"""The one connection of an event loop: order, cancellation, deadlines, losses."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
import uvloop

from mlflow_core.errors import StoreError, StoreTimeout
from mlflow_core.online.backend import Ask, OnlineTable
from mlflow_core.online.redis.backend import RedisBackend
from mlflow_core.testing.online_contract import stored
from tests.servers.redis import redis_server

V, W = OnlineTable("v", ("id",)), OnlineTable("w", ("id",))
KEYS = [i.to_bytes(2, "big") for i in range(500)]
ROWS = [stored(key, i) for i, key in enumerate(KEYS)]


@pytest.fixture(scope="module")
def server():
    with redis_server() as started:
        yield started


@pytest.fixture
def backend(server):
    server.flush()
    opened = RedisBackend(server.url, "p", timeout_s=0.4)
    opened.write(V, ROWS)
    yield opened
    opened.close()


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def on_a_loop(request, backend):
    """Run a test's coroutine on a loop of either kind, and close its connection."""

    def run(body):
        async def whole():
            try:
                return await body
            finally:
                await backend.close_async()

        return request.param(whole())

    return run


def ask(*at):
    return [Ask(("id",), ("v", "w"), [KEYS[i] for i in at])]


def answer(*at):
    return [[[ROWS[i][1], None] for i in at]]


async def connections(backend):
    return backend._connections.channels.execute([(b"*2\r\n$6\r\nCLIENT\r\n$4\r\nLIST\r\n", 1)])[0].count(
        b"\n"
    )


def test_readers_that_are_cancelled_do_not_shift_the_others_answers(backend, on_a_loop):
    """Seed 20130101: 2,000 reads of 1 to 8 keys, some of them cancelled at any moment."""
    rng = random.Random(20130101)

    async def one(at):
        assert await backend.read_async(ask(*at)) == answer(*at)
        return True

    async def body():
        tasks = []
        for _ in range(2_000):
            tasks.append(asyncio.ensure_future(one(rng.choices(range(500), k=rng.randint(1, 8)))))
            if rng.random() < 0.3:
                await asyncio.sleep(0)
            if rng.random() < 0.3:
                rng.choice(tasks[-20:]).cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = on_a_loop(body())
    read = sum(result is True for result in results)
    cancelled = sum(isinstance(result, asyncio.CancelledError) for result in results)
    assert read + cancelled == 2_000
    assert min(read, cancelled) > 200


def test_a_loop_has_one_connection_however_many_read(backend, on_a_loop):
    async def body():
        before = await connections(backend)
        await asyncio.gather(*(backend.read_async(ask(i % 500)) for i in range(1_000)))
        return await connections(backend) - before

    assert on_a_loop(body()) == 1


def test_asks_without_keys_or_views_need_no_server():
    backend = RedisBackend("redis://127.0.0.1:1", "p")
    nothing = [Ask(("id",), ("v",), []), Ask(("id",), (), [b"a", b"b"])]
    assert asyncio.run(backend.read_async(nothing)) == [[], [(), ()]]
    assert backend.read(nothing) == [[], [(), ()]]


def test_a_mixed_question_is_answered_by_ask(backend, on_a_loop):
    """Keys of different lengths, no keys, no views, several entities."""
    backend.write(OnlineTable("r", ("a", "b")), [stored(b"long key", 7), stored(b"", 8)])
    asks = [
        Ask(("id",), (), [b"x"]),
        Ask(("a", "b"), ("r",), [b"long key", b"", b"?" * 300]),
        Ask(("id",), ("v",), []),
        *ask(3, 3),
    ]
    expected = [[()], [[stored(b"", 7)[1]], [stored(b"", 8)[1]], [None]], [], *answer(3, 3)]
    assert on_a_loop(backend.read_async(asks)) == expected
    assert backend.read(asks) == expected


def test_a_server_that_hangs_is_a_timeout_and_its_late_answers_reach_nobody(backend, server, on_a_loop):
    async def body():
        assert await backend.read_async(ask(1)) == answer(1)
        server.pause()
        started = time.monotonic()
        try:
            late = [asyncio.ensure_future(backend.read_async(ask(i))) for i in range(50)]
            results = await asyncio.gather(*late, return_exceptions=True)
        finally:
            server.resume()
        took = time.monotonic() - started
        assert {type(result) for result in results} == {StoreTimeout}
        assert "no answer within 0.4 s" in str(results[0])
        assert 0.35 < took < 2
        for i in range(100, 120):
            assert await backend.read_async(ask(i)) == answer(i)

    on_a_loop(body())


def test_a_server_that_dies_fails_all_who_wait_at_once_and_is_found_again(on_a_loop, backend):
    """Reads fail fast while it is away; the first ones after it is back find it."""

    async def body():
        with redis_server() as server:
            ours = RedisBackend(server.url, "p", timeout_s=5)
            assert await ours.read_async(ask(1)) == [[[None, None]]]
            server.pause()
            waiting = [asyncio.ensure_future(ours.read_async(ask(i))) for i in range(20)]
            await asyncio.sleep(0.05)
            started = time.monotonic()
            server.kill()
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert {type(result) for result in results} == {StoreError}
            for _ in range(200):
                with pytest.raises(StoreError, match="no connection to Redis"):
                    await ours.read_async(ask(1))
            assert time.monotonic() - started < 2
            server.start()
            ours.write(V, ROWS)
            while True:
                try:
                    assert await ours.read_async(ask(1)) == answer(1)
                    break
                except StoreError:
                    assert time.monotonic() - started < 10
                    await asyncio.sleep(0.02)
            ours.close()
            await ours.close_async()

    on_a_loop(body())


def test_those_who_find_no_connection_share_one_attempt(backend, on_a_loop):
    """And one of them that is cancelled leaves it to the others."""

    async def body():
        readers = [asyncio.ensure_future(backend.read_async(ask(i))) for i in range(30)]
        await asyncio.sleep(0)
        readers[0].cancel()
        results = await asyncio.gather(*readers, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [answer(i) for i in range(1, 30)]
        info = backend._connections.channels.execute([(b"*2\r\n$4\r\nINFO\r\n$5\r\nstats\r\n", 1)])[
            0
        ].decode()
        return int(info.partition("total_connections_received:")[2].split()[0])

    before = on_a_loop(body())
    assert on_a_loop(body()) == before + 1


def test_closing_fails_those_who_wait(backend, server, on_a_loop):
    async def body():
        await backend.read_async(ask(1))
        server.pause()
        try:
            reader = asyncio.ensure_future(backend.read_async(ask(1)))
            await asyncio.sleep(0.01)
            await backend.close_async()
            with pytest.raises(StoreError, match="this store was closed"):
                await reader
        finally:
            server.resume()
        assert await backend.read_async(ask(2)) == answer(2)

    on_a_loop(body())


def test_closing_ends_an_attempt_to_connect_too(backend, server, on_a_loop):
    """From this loop, and from another thread."""

    async def body():
        server.pause()
        try:
            reader = asyncio.ensure_future(backend.read_async(ask(1)))
            await asyncio.sleep(0.05)
            await backend.close_async()
            with pytest.raises(StoreError, match="this store was closed"):
                await reader
        finally:
            server.resume()
        await backend.read_async(ask(1))
        server.pause()
        try:
            reader = asyncio.ensure_future(backend.read_async(ask(1)))
            await asyncio.sleep(0.05)
            await asyncio.to_thread(backend.close)
            with pytest.raises(StoreError, match="this store was closed"):
                await reader
        finally:
            server.resume()

    on_a_loop(body())


def test_an_error_in_one_answer_is_nobody_elses(backend, server, on_a_loop):
    """A key that holds something else: that read fails, its neighbours in the same write do not."""
    with server.client() as client:
        client.set(b"mlc:p:id:odd", b"a string")

    async def body():
        odd = [Ask(("id",), ("v",), [KEYS[0], b"odd", KEYS[1]])]
        reads = [backend.read_async(asks) for asks in (ask(1), odd, ask(2), odd, ask(3))]
        return await asyncio.gather(*reads, return_exceptions=True)

    one, first, two, second, three = on_a_loop(body())
    assert [one, two, three] == [answer(1), answer(2), answer(3)]
    for failed in (first, second):
        assert isinstance(failed, StoreError)
        assert "WRONGTYPE" in str(failed)
        assert "another database" in str(failed)
    with pytest.raises(StoreError, match="WRONGTYPE"):
        backend.read([Ask(("id",), ("v",), [b"odd"])])


def test_what_answers_and_is_no_redis_is_told(on_a_loop, backend):
    async def body():
        async def greet(_, writer):
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        other = await asyncio.start_server(greet, "127.0.0.1", 0)
        async with other:
            port = other.sockets[0].getsockname()[1]
            ours = RedisBackend(f"redis://127.0.0.1:{port}", "p", timeout_s=2)
            with pytest.raises(StoreError, match="what answers is no Redis"):
                await ours.read_async(ask(1))
            with pytest.raises(StoreError, match="what answers is no Redis"):
                await asyncio.to_thread(ours.read, ask(1))
            ours.close()
            await ours.close_async()

    on_a_loop(body())


def test_a_server_that_turns_connections_away_says_why(on_a_loop, backend):
    """Too many clients: said at once, and a place that becomes free is found."""

    async def body():
        with redis_server("--maxclients", "1") as server, server.client() as client:
            client.ping()
            ours = RedisBackend(server.url, "p", timeout_s=5)
            with pytest.raises(StoreError, match="max number of clients"):
                await ours.read_async(ask(1))
            client.close()
            started = time.monotonic()
            while True:
                try:
                    assert await ours.read_async(ask(1)) == [[[None, None]]]
                    break
                except StoreError:
                    assert time.monotonic() - started < 10
                    await asyncio.sleep(0.02)
            await ours.close_async()

    on_a_loop(body())
