"""A cluster that stays: real processes, found by its note, scaled, stopped, and nothing of it left behind."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mlflow_core.config import load_settings
from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.cluster import standing
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.engine.cluster.noted import read_note
from mlflow_core.engine.cluster.standing import scale, start, status, stop
from mlflow_core.errors import ConfigError, EngineError

SMALL = ClusterSettings(workers=1, threads=1, memory="1GiB")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "mlcore.toml").write_text('[cluster]\naddress = "started"\n')
    note = tmp_path / ".mlcore" / "cluster.json"
    yield note
    stop(note)


def family(pid: int) -> list[psutil.Process]:
    holder = psutil.Process(pid)
    return [holder, *holder.children(recursive=True)]


def are_gone(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


def wait_for(there: Callable[[], bool], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.05)


def test_a_cluster_is_started_used_scaled_and_stopped(file: Path) -> None:
    held = start(SMALL, file, log=file.parent / "cluster.log")
    processes = family(held.pid)
    settings = load_settings(file.parent.parent, environ={}).cluster
    assert settings.address == f"started:{file}"

    with open_cluster(settings) as client:
        assert client.submit(sum, [1, 2]).result(timeout=30) == 3
        found = status(settings)
    assert (found.address, len(found.workers), found.clients) == (held.address, 1, 1)
    assert found.workers[0].threads == 1
    assert found.workers[0].memory_limit == 1 << 30
    assert found.workers[0].memory > 0

    assert len(scale(settings, 2).workers) == 2
    processes += [one for one in family(held.pid) if one not in processes]
    assert len(scale(settings, 1).workers) == 1

    with pytest.raises(EngineError, match="there is one already"):
        start(SMALL, file, log=file.parent / "other.log")

    assert stop(file) == held
    assert are_gone(processes)
    assert not file.exists()
    assert stop(file) is None
    with pytest.raises(EngineError, match="no cluster was started"), open_cluster(settings):
        pass


@pytest.mark.chaos
def test_a_killed_cluster_leaves_no_worker_and_a_note_that_nobody_believes(file: Path) -> None:
    held = start(SMALL, file, log=file.parent / "cluster.log")
    processes = family(held.pid)

    os.kill(held.pid, signal.SIGKILL)

    wait_for(lambda: are_gone(processes))
    assert file.exists()
    assert read_note(file) is None
    again = start(SMALL, file, log=file.parent / "cluster.log")
    assert again.pid != held.pid


def test_only_a_cluster_on_this_machine_can_be_started_to_stay(file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be started to stay"):
        start(ClusterSettings(profile="slurm", workers=1), file, log=file.parent / "cluster.log")


def test_what_does_not_start_says_why(file: Path) -> None:
    with pytest.raises(EngineError, match="does not start"):
        start(
            SMALL.model_copy(update={"memory": "1KB", "start_within": "20s"}),
            file,
            log=file.parent / "cluster.log",
        )
    assert not file.exists()


def stubborn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let what is started be a process that does not come up, and does not end when it is asked to."""
    spawn, began = standing._spawn, []
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"

    def other(_: list[str], log: Path) -> int:
        began.append(spawn([sys.executable, "-c", code], log))
        return began[-1]

    monkeypatch.setattr(standing, "_spawn", other)
    monkeypatch.setattr(standing, "_STOPS_WITHIN_S", 1.0)
    return began


def test_what_neither_starts_nor_ends_is_killed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = stubborn(monkeypatch)

    with pytest.raises(EngineError, match="does not start"):
        start(SMALL.model_copy(update={"start_within": "1s"}), file, log=file.parent / "cluster.log")

    assert not psutil.pid_exists(began[0])


def test_a_start_that_is_interrupted_leaves_no_process(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = stubborn(monkeypatch)
    looks = iter([None, None])

    def interrupted(_: Path) -> None:
        for look in looks:
            return look
        raise KeyboardInterrupt

    monkeypatch.setattr(standing, "read_note", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start(SMALL, file, log=file.parent / "cluster.log")
    monkeypatch.undo()

    assert not psutil.pid_exists(began[0])


def test_whoever_stops_what_is_gone_leaves_the_note_of_the_next_one(file: Path) -> None:
    file.parent.mkdir()
    file.write_text('{"address": "tcp://127.0.0.1:1", "pid": 1, "born": 1.0, "workers": 1}')

    with file.with_suffix(".lock").open("w") as lock:  # as a cluster has that is about to write its note
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert stop(file) is None
        assert file.exists()
    assert stop(file) is None
    assert not file.exists()


def test_a_number_that_another_process_has_now_is_not_taken_for_the_cluster(file: Path) -> None:
    file.parent.mkdir()
    file.write_text('{"address": "tcp://127.0.0.1:1", "pid": 1, "born": 1.0, "workers": 1}')

    assert read_note(file) is None
    assert stop(file) is None


def test_started_means_nothing_where_there_is_no_project() -> None:
    with (
        pytest.raises(ConfigError, match=r"is for mlcore\.toml"),
        open_cluster(ClusterSettings(address="started")),
    ):
        pass
