"""Deadlines: whoever waits is told in time, what nobody waits for is not begun, and a hanging registry hangs alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from mlflow_core.errors import StoreTimeout
from mlflow_core.online.backend import Ask, Found
from mlflow_core.serve.app import Application, Limits
from mlflow_core.serve.deadline import Deadline
from mlflow_core.serve.metrics import Metrics
from mlflow_core.serve.run import Served, application
from mlflow_core.serve.store_reads import StoreReads
from mlflow_core.serve.threads import Threads
from tests.serve.shop import NOW, running, until


def test_work_that_has_not_begun_by_its_deadline_never_does() -> None:
    threads, held, begun = Threads(1, 0.2, "test"), threading.Event(), []

    async def both() -> list[BaseException | None]:
        slow = asyncio.create_task(threads.run(held.wait, 20))
        await asyncio.sleep(0.05)
        waits = asyncio.create_task(threads.run(begun.append, "second"))
        told = await asyncio.gather(slow, waits, return_exceptions=True)
        assert threads.left_behind == 1  # the first, which runs
        held.set()
        while threads.left_behind:
            await asyncio.sleep(0.01)
        await threads.run(begun.append, "third")
        return told

    told = asyncio.run(both())
    threads.close()
    assert [type(one) for one in told] == [TimeoutError, TimeoutError]
    assert begun == ["third"]


class Slow:
    """A store that is read without blocking, and takes its time."""

    cancelled = False

    async def read_async(self, asks: Sequence[Ask]) -> list[Found]:
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return []

    async def close_async(self) -> None:
        """Nothing is open."""


def test_a_read_that_does_not_block_ends_by_the_requests_deadline() -> None:
    store, threads, metrics = Slow(), Threads(1, 0.1, "test"), Metrics()
    reads = StoreReads(store, threads, metrics)  # type: ignore[arg-type]
    started = time.monotonic()
    with pytest.raises(StoreTimeout):
        asyncio.run(reads.read([]))
    threads.close()
    assert time.monotonic() - started < 10
    assert store.cancelled
    assert b"mlcore_store_failures_total 1.0" in metrics.text()


def test_whoever_is_cancelled_otherwise_is_not_told_of_a_deadline() -> None:
    async def cancelled() -> bool:
        task = asyncio.create_task(Deadline(10).wait(asyncio.sleep(20)))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(cancelled())


def test_of_many_that_wait_the_late_ones_are_told_and_the_others_get_what_they_wait_for() -> None:
    """Again on another event loop, and where nobody has waited for a while."""
    deadline = Deadline(0.2)

    async def many() -> list[object]:
        waits = [deadline.wait(asyncio.sleep(20 if i % 3 == 0 else 0.01 * i, i)) for i in range(10)]
        first = await asyncio.gather(*waits, return_exceptions=True)
        await asyncio.sleep(0.3)
        return [*first, *await asyncio.gather(deadline.wait(asyncio.sleep(20)), return_exceptions=True)]

    for _ in range(2):
        started = time.monotonic()
        told = asyncio.run(many())
        late = {i for i, one in enumerate(told) if type(one) is TimeoutError}
        assert late == {0, 3, 6, 9, 10}
        assert [one for one in told if isinstance(one, int)] == [1, 2, 4, 5, 7, 8]
        assert time.monotonic() - started < 10


def test_who_fails_as_it_is_told_keeps_nobody_else_from_being_told() -> None:
    async def told() -> bool:
        loop, late = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(lambda *_: None)
        deadline = Deadline(0.1)
        deadline.taken(loop, lambda: 1 // 0)
        deadline.taken(loop, late.set)
        return await asyncio.wait_for(late.wait(), 10)

    assert asyncio.run(told())


def test_a_registry_that_hangs_is_looked_at_once_and_leaves_the_rest_answering(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(deadline_s=0.2, refresh_s=0.05)
    app: Application = application(Served(str(project), clock=NOW, limits=limits))
    held, looks = threading.Event(), []
    real = app._features._reader.read

    def hanging() -> object:
        looks.append(time.monotonic())
        held.wait(30)
        return real()

    monkeypatch.setattr(app._features._reader, "read", hanging)
    with running(app) as url:
        try:
            until(lambda: app._features.registry_problem is not None)
            time.sleep(0.5)
            state = httpx.get(f"{url}/readyz", timeout=30.0)
        finally:
            held.set()
        assert len(looks) == 1
        assert (state.status_code, state.json()["status"]) == (200, "degraded")
        assert "longer" in state.json()["registry"]["error"]
        until(lambda: app._features.registry_problem is None)


def test_a_read_that_hangs_keeps_neither_the_end_of_the_server_nor_the_loop(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app: Application = application(Served(str(project), clock=NOW, limits=Limits(deadline_s=0.2)))
    held, real = threading.Event(), app._features.store.read

    def hanging(asks: Sequence[Ask]) -> list[Found]:
        held.wait(60)
        return real(asks)

    monkeypatch.setattr(app._features.store, "read", hanging)
    body = {"service": "plain", "entities": [{"user_id": 1}]}
    with running(app) as url:
        assert httpx.post(f"{url}/v1/features", json=body, timeout=30.0).status_code == 504
        started = time.monotonic()
    took = time.monotonic() - started
    held.set()

    assert took < 12
    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(app._threads.run(list))


def test_work_that_never_ends_does_not_keep_the_process() -> None:
    told = (
        "import asyncio, threading\n"
        "from mlflow_core.serve.threads import Threads\n"
        "threads = Threads(2, 0.1, 'test')\n"
        "try:\n"
        "    asyncio.run(threads.run(threading.Event().wait))\n"
        "except TimeoutError:\n"
        "    print(threads.close(0.1))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.strip() == "False"
