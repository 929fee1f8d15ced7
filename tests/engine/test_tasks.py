"""Waiting for tasks: results in order, what they worked through, what it costs, and how each way of failing is told."""

from __future__ import annotations

import errno
import io
import os
import time
from collections.abc import Iterator

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

from mlflow_core.engine.cluster.tasks import Amount, n_threads, run_tasks
from mlflow_core.errors import EngineError
from mlflow_core.telemetry import PlainProgress, SilentProgress
from tests.lost import lost_client

TINY = 200


def double(n: int) -> int:
    return 2 * n


def worked(n: int) -> Amount:
    return Amount(rows=n, bytes=10 * n)


def fail(kind: type[Exception], *arguments: object) -> None:
    raise kind(*arguments)


def pause(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def hoard(size: int) -> int:
    """Leave memory behind that is never given back."""
    import builtins

    kept = builtins.__dict__.setdefault("_hoard", [])
    kept.append(np.ones(size // 8))
    return len(kept)


def test_results_come_in_the_order_of_the_tasks_whatever_order_they_finish_in(client):
    calls = [(lambda n: (time.sleep(0.05 * (n % 3)), n)[1], n) for n in range(9)]

    assert run_tasks(client, calls, "counting", "numbers", SilentProgress()) == list(range(9))


def test_no_tasks_are_finished_at_once(client):
    assert run_tasks(client, [], "counting", "numbers", SilentProgress()) == []


def test_rows_and_bytes_are_told_by_the_result_or_by_the_caller(client):
    out = io.StringIO()
    progress = PlainProgress(out, after_s=0.0)
    numbers = (1, 2, 3)

    run_tasks(client, [(worked, n) for n in numbers], "parting", "files", progress)
    run_tasks(
        client,
        [(double, n) for n in numbers],
        "doubling",
        "numbers",
        progress,
        amount=lambda n: Amount(rows=n),
    )

    parting, doubling = out.getvalue().splitlines()
    assert parting.startswith("parting: 3 files, 6 rows, 60 B in ")
    assert doubling.startswith("doubling: 3 numbers, 12 rows in ")


def test_waiting_for_many_tiny_tasks_costs_no_more_than_gathering_them(client):
    """Compared in the same run, because this machine may be busy; a trip for each result would be several times it."""

    def gathering() -> float:
        start = time.perf_counter()
        client.gather([client.submit(double, n, pure=False) for n in range(TINY)])
        return time.perf_counter() - start

    def waiting() -> float:
        start = time.perf_counter()
        run_tasks(client, [(double, n) for n in range(TINY)], "doubling", "numbers", SilentProgress())
        return time.perf_counter() - start

    gathering()
    base, ours = (min(one() for _ in range(3)) for one in (gathering, waiting))
    print(f"{TINY} tasks: gathered in {base:.3f} s, waited for in {ours:.3f} s")

    assert ours < 3 * base + 0.5


@pytest.mark.parametrize(
    ("kind", "arguments", "told"),
    [
        (OSError, (errno.ENOSPC, "No space left on device", "/data/x"), "/data/x: writing: the disk is full"),
        (OSError, (errno.EDQUOT, "Disk quota exceeded"), "writing: the disk is full"),
        (
            FileNotFoundError,
            (errno.ENOENT, "No such file", "/data/x"),
            "a file could not be read or written.*/data/x",
        ),
        (MemoryError, ("cannot allocate 3 GiB",), "no memory left .*workers with more memory"),
    ],
)
def test_what_the_machine_refuses_a_task_is_one_clear_error(client, kind, arguments, told):
    with pytest.raises(EngineError, match=told):
        run_tasks(client, [(fail, kind, *arguments)], "writing", "files", SilentProgress())


def test_what_a_task_raises_otherwise_is_its_own(client):
    with pytest.raises(ZeroDivisionError):
        run_tasks(client, [(fail, ZeroDivisionError)], "x", "y", SilentProgress())


@pytest.fixture
def gone() -> Iterator[Client]:
    with lost_client() as client:
        yield client


class Restless(Client):
    """A client whose own refreshing of its list, which asks for no workers, always comes last."""

    async def _update_scheduler_info(self, n_workers: int = 0) -> None:
        await super()._update_scheduler_info(n_workers=0)


def test_a_long_task_is_waited_for_though_the_clients_own_list_of_workers_is_empty(client):
    with (
        Restless(client.scheduler.address, set_as_default=False) as restless,
        dask.config.set({"distributed.scheduler.no-workers-timeout": "1s"}),
    ):
        assert restless.scheduler_info()["workers"] == {}

        assert run_tasks(restless, [(pause, 4.0)], "waiting", "tasks", SilentProgress()) == [4.0]


@pytest.mark.chaos
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # its connections, lost on purpose
def test_tasks_for_a_scheduler_that_never_comes_back_are_one_clear_error(gone):
    hoping = gone.status

    with pytest.raises(EngineError, match="counting: the Dask cluster went away while it was at work"):
        run_tasks(gone, [(abs, -1)], "counting", "numbers", SilentProgress())

    assert hoping == "connecting"
    assert gone.status in ("closing", "closed")


@pytest.mark.chaos
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_tasks_for_a_client_that_has_given_up_are_one_clear_error(gone):
    while gone.status != "closed":
        time.sleep(0.01)

    with pytest.raises(EngineError, match="counting: the Dask cluster went away while it was at work"):
        run_tasks(gone, [(abs, -1)], "counting", "numbers", SilentProgress())
    with pytest.raises(EngineError, match="counting workers: the Dask cluster went away"):
        n_threads(gone)


def test_a_client_that_is_not_the_default_one_is_used_all_the_same():
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        assert run_tasks(client, [(abs, -1)], "counting", "numbers", SilentProgress()) == [1]


@pytest.mark.chaos
@pytest.mark.long
def test_workers_that_are_all_full_and_take_no_task_are_one_clear_error_and_no_endless_wait(client):
    limit = 1 << 30
    full = [
        client.submit(hoard, int(limit * 0.78), workers=[worker], pure=False) for worker in client.nthreads()
    ]
    client.gather(full)
    deadline = time.monotonic() + 30
    while any(one["status"] == "running" for one in client.scheduler_info()["workers"].values()):
        assert time.monotonic() < deadline, "the workers have not paused"
        time.sleep(0.2)

    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": "3s"}),
        pytest.raises(EngineError, match=r"(all workers .* out of memory and took no task|had no worker)"),
    ):
        run_tasks(client, [(os.getpid,)], "reading", "files", SilentProgress())
