"""A local cluster that stays when the command that started it has ended: started, looked at, made larger, stopped.

One process holds the scheduler and its workers' nannies; ``python -m mlflow_core.engine.cluster.standing`` is that
process. It is asked to end by SIGTERM; if it is killed, its workers notice and end by themselves.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.config.times import parse_duration
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.engine.cluster.noted import Standing, read_note, write_note
from mlflow_core.errors import ConfigError, EngineError

__all__ = ["ClusterStatus", "WorkerStatus", "scale", "start", "status", "stop"]

_STOPS_WITHIN_S = 30.0
_LOOK_S = 0.1
_PLUGIN = "mlcore-standing"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker.

    Attributes:
        name: Its name in the cluster.
        address: Where it listens.
        threads: How many tasks it runs at a time.
        memory: What its process takes, in bytes.
        memory_limit: What it may take; 0 is no limit.
        tasks: How many tasks it is running or has queued.
    """

    name: str
    address: str
    threads: int
    memory: int
    memory_limit: int
    tasks: int


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A cluster at one moment.

    Attributes:
        address: Its scheduler's.
        workers: Its workers, by name.
        tasks: How many tasks are in which of Dask's states.
        clients: How many clients are connected beside this one.
    """

    address: str
    workers: tuple[WorkerStatus, ...]
    tasks: Mapping[str, int]
    clients: int


def start(settings: ClusterSettings, file: Path, *, log: Path) -> Standing:
    """Start a cluster on this machine that stays.

    Args:
        settings: Workers, threads and memory of the profile ``local``.
        file: Where it is noted.
        log: What it says goes there.

    Returns:
        It, with all of its workers up.

    Raises:
        ConfigError: The profile is another one: its clusters are started by its own tools.
        EngineError: There is one already, or it does not start in time.
    """
    if settings.profile != "local":
        raise ConfigError(
            f'a cluster of the profile "{settings.profile}" cannot be started to stay',
            expected="cluster.profile local",
            hint="Start it with that system's own tools, and set cluster.address.",
        )
    if (there := read_note(file)) is not None:
        raise EngineError(f"there is one already, at {there.address}", place=str(file))
    for folder in (log.parent, file.parent):
        folder.mkdir(parents=True, exist_ok=True)
    words = {name: getattr(settings, name) for name in ("workers", "threads", "memory")}
    pid = _spawn([sys.executable, "-m", __name__, str(file), json.dumps(words)], log)
    return _once_it_is_there(pid, file, log, parse_duration(settings.start_within) / 1e6)


def stop(file: Path) -> Standing | None:
    """End a started cluster with all of its processes.

    Args:
        file: Where it is noted.

    Returns:
        What was ended; None where there was none.
    """
    standing = read_note(file)
    holder = None if standing is None else standing.process()
    if holder is not None:
        _end(holder)
    _forget(file)
    return standing


def status(settings: ClusterSettings) -> ClusterStatus:
    """Look at a running cluster.

    Args:
        settings: With its address.

    Raises:
        EngineError: Nobody answers there.
    """
    with open_cluster(settings) as client:
        found: dict[str, Any] = client.run_on_scheduler(_look, own=client.id)
        workers = tuple(WorkerStatus(**one) for one in found["workers"])
        return ClusterStatus(found["address"], workers, found["tasks"], found["clients"])


def scale(settings: ClusterSettings, workers: int) -> ClusterStatus:
    """Give a started cluster another number of workers, and wait until it has them.

    Args:
        settings: With its address.
        workers: How many.

    Returns:
        How it stands then. Workers that go give what they hold to the others first.

    Raises:
        ConfigError: The cluster was not started with ``start``: its size is its owner's business.
        EngineError: Nobody answers, or it does not get there in time.
    """
    with open_cluster(settings) as client:
        if not client.run_on_scheduler(_scale, workers=workers):
            raise ConfigError(
                "was not started with mlcore cluster start, so it cannot be scaled from here",
                object=f"cluster at {client.scheduler_info(n_workers=0)['address']}",
            )
        until = time.monotonic() + parse_duration(settings.start_within) / 1e6
        while len(client.run_on_scheduler(_look, own=client.id)["workers"]) != workers:
            if time.monotonic() > until:
                raise EngineError(f"does not have {workers} workers within {settings.start_within}")
            time.sleep(_LOOK_S)
    return status(settings)


def _end(holder: psutil.Process) -> None:
    """End the process that holds a cluster, with all that it started: asked first, then not."""
    family = [holder, *_children(holder)]
    with suppress(psutil.NoSuchProcess):
        holder.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=_STOPS_WITHIN_S)
    for one in alive:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(alive, timeout=_STOPS_WITHIN_S)


def _forget(file: Path) -> None:
    """Remove a note, unless it is of a cluster that is there by now."""
    with suppress(FileNotFoundError, BlockingIOError), _lock_of(file).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.unlink(missing_ok=True)


def _lock_of(file: Path) -> Path:
    """Held by the process that holds the cluster, for as long."""
    return file.with_suffix(".lock")


def _spawn(words: list[str], log: Path) -> int:
    """Start a process that nobody waits for, out of reach of the terminal's Ctrl-C."""
    written = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return os.posix_spawn(
        words[0],
        words,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), written, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def _once_it_is_there(pid: int, file: Path, log: Path, within_s: float) -> Standing:
    until = time.monotonic() + within_s
    holder = psutil.Process(pid)
    try:
        while time.monotonic() < until and os.waitpid(pid, os.WNOHANG) == (0, 0):
            standing = read_note(file)
            if standing is not None and standing.pid == pid:
                return standing
            time.sleep(_LOOK_S)
    except BaseException:  # Ctrl-C: whoever starts it would not know that it came up after all
        _end(holder)
        raise
    _end(holder)
    said = log.read_text(errors="replace").strip().splitlines()
    raise EngineError(
        f"the cluster does not start: {said[-1] if said else 'it said nothing'}", place=str(log)
    )


def _children(holder: psutil.Process) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = holder.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def _look(dask_scheduler: Any, own: str) -> dict[str, Any]:
    """Runs in the scheduler."""
    holder = dask_scheduler.plugins.get(_PLUGIN)
    ours = {"fire-and-forget", own, None if holder is None else holder.client}
    workers = [
        {
            "name": str(one.name),
            "address": one.address,
            "threads": one.nthreads,
            "memory": int(one.metrics.get("memory", 0)),
            "memory_limit": int(one.memory_limit or 0),
            "tasks": len(one.processing),
        }
        for one in dask_scheduler.workers.values()
    ]
    return {
        "address": dask_scheduler.address,
        "workers": sorted(workers, key=lambda one: (len(str(one["name"])), str(one["name"]))),
        "tasks": dict(Counter(one.state for one in dask_scheduler.tasks.values())),
        "clients": len(set(dask_scheduler.clients) - ours),
    }


def _scale(dask_scheduler: Any, workers: int) -> bool:
    """Runs in the scheduler; only one that was started here knows how it gets workers."""
    holder = dask_scheduler.plugins.get(_PLUGIN)
    if holder is None:
        return False
    holder.cluster.scale(workers)
    return True


def _hold(file: Path, settings: ClusterSettings) -> None:
    """Be the process that holds a cluster, until asked to end."""
    from distributed import SchedulerPlugin

    class Holder(SchedulerPlugin):
        name = _PLUGIN

        def __init__(self, cluster: Any, client: str) -> None:
            self.cluster = cluster
            self.client = client

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with _lock_of(file).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit("another cluster of this project is just being started or stopped") from None
        with open_cluster(settings) as client:
            cluster: Any = client.cluster
            scheduler = cluster.scheduler
            scheduler.add_plugin(Holder(cluster, client.id), name=_PLUGIN)
            client.wait_for_workers(len(cluster.worker_spec))
            me = psutil.Process()
            write_note(
                file, Standing(scheduler.address, os.getpid(), me.create_time(), len(cluster.worker_spec))
            )
            ended.wait()
        file.unlink(missing_ok=True)


if __name__ == "__main__":
    _hold(Path(sys.argv[1]), ClusterSettings(**json.loads(sys.argv[2])))
