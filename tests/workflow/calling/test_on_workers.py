"""Steps called on workers of a cluster: what comes back, and what is left when somebody on the way is gone."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.errors import EngineError, StepCancelled, StepCrashed, StepFailed, StepTimeout
from mlflow_core.workflow.calling import call_step, on_workers
from mlflow_core.workflow.calling.on_workers import _run_on_worker
from tests.workflow.calling.processes import alive, read_when_there, when

TWO = ClusterSettings(workers=2, threads=2, memory="1GiB")


@pytest.fixture(scope="module")
def client():
    with open_cluster(TWO) as client:
        yield client


def test_a_step_runs_on_a_worker_and_says_what_it_cost_and_said(steps, client) -> None:
    lines: list[str] = []

    called = call_step(steps.call("speaks"), client=client, told=lines.append)

    assert called.worker in client.scheduler_info()["workers"]
    assert called.log.split("\n") == lines == ["printed", "INFO mine: logged", "by a child", "half"]
    assert called.memory_bytes > 1 << 20


def test_a_step_leaves_the_same_bytes_on_a_worker_as_here(steps, client) -> None:
    assert call_step(steps.call("chance"), client=client).digest == call_step(steps.call("chance")).digest


def test_nothing_of_what_a_step_told_stays_on_the_scheduler(steps, client) -> None:
    def topics(dask_scheduler) -> list[str]:
        return [one for one in dask_scheduler._broker._topics if one.startswith("mlcore-steps")]

    call_step(steps.call("speaks"), client=client)
    with pytest.raises(StepFailed):
        call_step(steps.call("raises"), client=client)

    assert client.run_on_scheduler(topics) == []


class Restless(Client):
    """A client whose own refreshing of its list, which asks for no workers, always comes last."""

    async def _update_scheduler_info(self, n_workers: int = 0) -> None:
        await super()._update_scheduler_info(n_workers=0)


def test_a_worker_is_not_lost_because_the_clients_list_of_workers_is_empty(steps, client, tmp_path) -> None:
    with Restless(client.scheduler.address) as restless:
        assert restless.scheduler_info()["workers"] == {}

        called = call_step(steps.call("ends_well", at=str(tmp_path / "a"), seconds=3.0), client=restless)

    assert steps.store.read_bytes(called.digest) == b"7"


def test_a_task_that_begins_when_nobody_waits_for_it_any_more_gives_its_thread_back(steps, client) -> None:
    future = client.submit(_run_on_worker, steps.call("version"), None, "given up", pure=False)

    assert future.result(timeout=60).how == "stopped"


def test_a_worker_that_closes_ends_its_steps_also_where_its_process_goes_on(steps, tmp_path) -> None:
    at = tmp_path / "a"
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        closer = threading.Thread(target=lambda: (read_when_there(at), cluster.close()))
        closer.start()
        with pytest.raises((EngineError, StepCrashed)):
            call_step(steps.call("stays", at=str(at)), client=client)
        closer.join()

    when(lambda: not any(alive(one) for one in read_when_there(at)))


def test_errors_come_back_as_what_they_are(steps, client) -> None:
    with pytest.raises(StepFailed, match="KeyError: 'missing'") as raised:
        call_step(steps.call("raises"), client=client)
    assert ", in _deeper" in raised.value.log
    with pytest.raises(StepCrashed, match="SIGSEGV"):
        call_step(steps.call("faults"), client=client)
    with pytest.raises(StepCrashed, match="more memory than it may"):
        call_step(steps.call("grows"), client=client)


def test_a_full_disk_of_a_worker_is_not_taken_for_a_cluster_that_went_away(
    steps, client, monkeypatch
) -> None:
    def without_room(*_call: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(on_workers, "_run_on_worker", without_room)
    with pytest.raises(OSError, match="No space left on device"):
        call_step(steps.call("version"), client=client)


def test_a_timeout_ends_what_ignores_term_and_a_neighbour_on_the_same_worker_finishes(
    steps, tmp_path
) -> None:
    with open_cluster(ClusterSettings(workers=1, threads=2, memory="1GiB")) as client:
        neighbour: list[object] = []
        beside = threading.Thread(
            target=lambda: neighbour.append(
                call_step(steps.call("waits", at=str(tmp_path / "b")), client=client)
            )
        )
        beside.start()

        with pytest.raises(StepTimeout):
            call_step(steps.call("stays", at=str(tmp_path / "a")), client=client, timeout_s=5.0)

        assert not any(alive(one) for one in read_when_there(tmp_path / "a"))
        (tmp_path / "b").touch()
        beside.join()
        assert steps.store.read_bytes(neighbour[0].digest) == b"7"


def test_when_a_step_is_said_to_be_cancelled_its_processes_are_gone(steps, client, tmp_path) -> None:
    with pytest.raises(StepCancelled):
        call_step(
            steps.call("stays", at=str(tmp_path / "a")),
            client=client,
            stopped=lambda: (tmp_path / "a").exists(),
        )

    assert not any(alive(one) for one in read_when_there(tmp_path / "a"))


def test_a_step_whose_worker_was_killed_is_a_crash_it_is_not_begun_again_and_nothing_of_it_is_left(
    steps, tmp_path
) -> None:
    at = tmp_path / "a"
    with open_cluster(TWO) as client:
        pids = client.run(os.getpid)
        beginnings: list[list[int]] = []

        def kill_its_worker() -> None:
            beginnings.append(read_when_there(at))
            (step, *_) = beginnings[0]
            worker = next(one for one in pids.values() if step in _below(one))
            at.unlink()
            os.kill(worker, signal.SIGKILL)

        killer = threading.Thread(target=kill_its_worker)
        killer.start()
        with pytest.raises(StepCrashed, match="was lost while it ran the step"):
            call_step(steps.call("stays", at=str(at)), client=client)
        killer.join()

        when(lambda: not any(alive(one) for one in beginnings[0]))
        assert call_step(steps.call("version"), client=client).kind == "value"
    assert not at.exists(), "another worker has begun it again"


def _below(process: int) -> set[int]:
    import psutil

    return {one.pid for one in psutil.Process(process).children(recursive=True)}


@contextmanager
def _driver(steps, at: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    program = [sys.executable, "-m", "tests.workflow.calling.driving", str(steps.root), steps.store.location]
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen([*program, str(at), *more], cwd=root) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_driver_that_was_killed_leaves_no_process_behind(steps, tmp_path) -> None:
    with _driver(steps, tmp_path / "a") as driver:
        left = [*read_when_there(tmp_path / "a"), *_below(driver.pid)]
        driver.kill()

    when(lambda: not any(alive(one) for one in left))


def test_a_driver_that_was_killed_leaves_no_step_on_a_worker(steps, client, tmp_path) -> None:
    with _driver(steps, tmp_path / "a", client.scheduler.address) as driver:
        left = read_when_there(tmp_path / "a")
        driver.kill()

    when(lambda: not any(alive(one) for one in left))
    assert call_step(steps.call("version"), client=client).kind == "value"


def test_a_cluster_that_goes_away_is_an_error_of_the_cluster_and_the_step_ends(steps, tmp_path) -> None:
    at = tmp_path / "a"
    with open_cluster(TWO) as client:
        closer = threading.Thread(target=lambda: (read_when_there(at), client.cluster.close()))
        closer.start()
        with pytest.raises((EngineError, StepCrashed)):
            call_step(steps.call("stays", at=str(at)), client=client)
        closer.join()

    when(lambda: not any(alive(one) for one in read_when_there(at)))
