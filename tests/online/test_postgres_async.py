"""Reads of PostgreSQL on an event loop: the same answers, and every fault in time."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time

import psycopg
import pytest

from mlflow_core.errors import StoreError, StoreTimeout
from mlflow_core.online.backend import Ask, OnlineTable
from mlflow_core.testing.online_contract import stored
from tests.online.beside import until_waiting

V = OnlineTable("v", ("carrier",))
K5 = stored(b"k", 5)
ASK = [Ask(V.keys, ("v",), [b"k"])]
HELD = "LOCK TABLE mlcore_online.rows IN ACCESS EXCLUSIVE MODE"


@pytest.fixture
def store(open_postgres):
    opened = open_postgres(timeout_s=2.0, connections=2)
    opened.write(V, [K5])
    return opened


def on_a_loop(store, work):
    async def run():
        try:
            return await work()
        finally:
            await store.close_async()

    return asyncio.run(run())


def test_nothing_to_ask_needs_no_server(postgres, store):
    postgres.stop()
    try:
        assert on_a_loop(store, lambda: store.read_async([Ask(V.keys, ("v",), []), Ask((), (), [b""])])) == [
            [],
            [()],
        ]
    finally:
        postgres.start()


def test_a_restart_between_two_reads_is_not_noticed_and_a_server_that_is_down_is(postgres, store):
    async def work():
        await asyncio.gather(*(store.read_async(ASK) for _ in range(5)))
        await asyncio.to_thread(postgres.stop)
        try:
            with pytest.raises(StoreError, match="Check that the server runs"):
                await store.read_async(ASK)
        finally:
            await asyncio.to_thread(postgres.start)
        return await store.read_async(ASK)

    assert on_a_loop(store, work) == [[(K5[1],)]]


def test_a_read_whose_connection_breaks_is_asked_again(postgres, postgres_admin, store):
    async def work():
        with psycopg.connect(postgres.url) as other:
            other.execute(HELD)
            reading = asyncio.create_task(store.read_async(ASK))
            await asyncio.to_thread(until_waiting, postgres_admin)
            postgres_admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            )
            await asyncio.to_thread(until_waiting, postgres_admin)
        return await reading

    assert on_a_loop(store, work) == [[(K5[1],)]]


def test_a_cancelled_read_ends_at_once_and_leaves_nothing_for_the_next(postgres, postgres_admin, store):
    async def work():
        assert await store.read_async(ASK) == [[(K5[1],)]]
        with psycopg.connect(postgres.url) as other:
            other.execute(HELD)
            begun = time.monotonic()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await store.read_async(ASK)
            assert time.monotonic() - begun < 1.5
        return await store.read_async([Ask(V.keys, ("v",), [b"k", b"l"])])

    assert on_a_loop(store, work) == [[(K5[1],), (None,)]]


def test_locks_silence_and_too_much_work_are_timeouts(postgres, postgres_admin, open_postgres, store):
    hasty = open_postgres(timeout_s=0.3, connections=1)
    newest = "SELECT pid FROM pg_stat_activity WHERE application_name = 'mlcore' ORDER BY backend_start DESC"

    async def work():
        await hasty.read_async(ASK)
        with psycopg.connect(postgres.url) as other:
            other.execute(HELD)
            both = await asyncio.gather(*(hasty.read_async(ASK) for _ in range(2)), return_exceptions=True)
        assert [type(error) for error in both] == [StoreTimeout, StoreTimeout]
        assert {
            "statement timeout" in str(error) or "connections are busy" in str(error) for error in both
        } == {True}
        assert await hasty.read_async(ASK) == [[(K5[1],)]]
        (pid,) = postgres_admin.execute(newest).fetchone()
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(StoreTimeout, match="no answer within 1\\.3 s"):
                await hasty.read_async(ASK)
        finally:
            os.kill(pid, signal.SIGCONT)
        return await hasty.read_async(ASK)

    assert on_a_loop(hasty, work) == [[(K5[1],)]]


def test_closing_the_store_closes_what_an_ended_loop_left_open(store):
    asyncio.run(store.read_async(ASK))
    asyncio.run(store.read_async(ASK))
    store.close()
    gc.collect()
    assert store.read(ASK) == [[(K5[1],)]], "and a closed store opens again"
