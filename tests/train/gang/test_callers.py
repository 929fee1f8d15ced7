"""Callers that end before their ranks: killed, interrupted, or left by their scheduler; and what is left then."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from mlflow_core.errors import TrainError
from mlflow_core.spec.recovery import Recovery
from mlflow_core.train.gang.gang import Told, run_gang
from mlflow_core.train.gang.rank import CHECKPOINT
from tests.train.gang.counting import Adder, Counting, truth

pytestmark = pytest.mark.chaos
STEPS = 60


@contextmanager
def driver(folder: Path, steps: int, *more: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.train.gang.driver", str(folder), str(steps), *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def heard(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def until_checkpoint(process: subprocess.Popen[str], at: int) -> list[int]:
    """Listen until a checkpoint is told of; return the workers' process ids."""
    workers: list[int] = []
    for one in heard(process):
        if one["name"] == "workers":
            workers = one["facts"]
        if one["name"] == CHECKPOINT and one["facts"]["at"] >= at:
            return workers
    raise AssertionError(f"the driver ended before: {process.communicate()[1]}")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def assert_all_end(pids: list[int], within: float = 15.0) -> None:
    until = time.monotonic() + within
    while any(map(is_alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert [pid for pid in pids if is_alive(pid)] == []


@pytest.mark.parametrize("at", [5, 30, 55])
def test_a_driver_that_was_killed_leaves_no_process_and_the_next_one_goes_on(tmp_path: Path, at: int):
    with driver(tmp_path / "kept", STEPS) as first:
        workers = until_checkpoint(first, at)
        first.kill()
        first.wait()
    assert len(workers) == 2
    assert_all_end(workers)

    with driver(tmp_path / "kept", STEPS) as second:
        told = list(heard(second))

    began = {one["facts"]["at"] for one in told if one["name"] == "began"}
    assert len(began) == 1
    assert min(began) >= at
    assert told[-1] == {"name": "results", "facts": [truth(STEPS)] * 2}


def test_ranks_on_a_cluster_of_its_own_end_with_the_driver_that_was_killed(two: Client, left, tmp_path: Path):
    with driver(tmp_path / "kept", 10**6, two.scheduler.address) as first:
        until_checkpoint(first, 10)
        first.kill()
        first.wait()

    assert {name: kept for name, kept in left().items() if name != "topics"} == {}
    names = sorted(path.name for path in (tmp_path / "kept").glob("*.checkpoint"))
    time.sleep(0.3)
    assert sorted(path.name for path in (tmp_path / "kept").glob("*.checkpoint")) == names
    told: list[Told] = []
    steps = int(names[-1].removesuffix(".checkpoint")) + 10
    result = run_gang(
        two,
        Counting(tmp_path / "kept", steps=steps),
        ranks=2,
        recovery=Recovery(),
        rendezvous=Adder(),
        told=told.append,
    )
    assert result.results == (truth(steps),) * 2
    assert {one.facts["at"] for one in told if one.name == "began"} == {steps - 10}


def test_ctrl_c_ends_the_driver_its_workers_and_ranks(tmp_path: Path):
    with driver(tmp_path / "kept", 10**6) as process:
        workers = until_checkpoint(process, 10)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)

    assert "KeyboardInterrupt" in errors
    assert process.returncode == -signal.SIGINT
    assert_all_end(workers)
    assert len(list((tmp_path / "kept").glob("*.checkpoint"))) == 2
    assert list((tmp_path / "kept").glob("*.part")) == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # its connections, lost on purpose
@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.long)])
def test_a_scheduler_that_is_lost_ends_the_gang_with_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
):
    monkeypatch.setattr("mlflow_core.train.gang.roll._SILENT_S", 6.0)
    scheduler = subprocess.Popen(
        [
            *(sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"),
            *("--no-dashboard", "--no-show", "--scheduler-file", str(tmp_path / "scheduler.json")),
        ],
        stderr=subprocess.DEVNULL,
    )
    workers: list[subprocess.Popen[bytes]] = []
    try:
        file = tmp_path / "scheduler.json"
        while not (file.exists() and file.read_text().endswith("}")):
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        workers += [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-dashboard"),
                    *("--nthreads", "1", "--host", "127.0.0.1", "--local-directory", str(tmp_path)),
                ],
                stderr=subprocess.DEVNULL,
            )
            for _ in range(2)
        ]
        client = Client(address, timeout="2s", heartbeat_interval="50ms", set_as_default=False)
        client.wait_for_workers(2, timeout=60)
        killed = threading.Event()

        def told(one: Told) -> None:
            if one.name == CHECKPOINT and not killed.is_set():
                killed.set()
                scheduler.send_signal(how)

        start = time.monotonic()
        with pytest.raises(
            TrainError,
            match=r"the Dask cluster went away while it trained.*with the same checkpoints: it goes on",
        ):
            run_gang(
                client,
                Counting(tmp_path / "kept", steps=10**6),
                ranks=2,
                recovery=Recovery(),
                rendezvous=Adder(),
                told=told,
            )
        assert time.monotonic() - start < 60
        scheduler.kill()
        client.close()
        assert sorted((tmp_path / "kept").glob("*.checkpoint"))
    finally:
        for one in (scheduler, *workers):
            one.terminate()
        for one in (scheduler, *workers):
            try:
                one.wait(15)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
