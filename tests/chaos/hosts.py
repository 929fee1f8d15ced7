"""Schedulers and workers as processes of their own, each on the address that it is given, ended by their numbers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A peer that is silent for this long is given up: Dask's own half a minute only makes the tests slow, 11 s is its least.
SILENCE = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s", "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s"}


@dataclass
class Machines:
    """Processes of one cluster, started one by one, and all ended at the end.

    Attributes:
        folder: For their logs and scratch.
        started: All that were started.
    """

    folder: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def scheduler(self, host: str, port: int, inside: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start a scheduler and wait until it listens."""
        process = self._start(
            inside,
            "distributed.cli.dask_scheduler",
            f"--host={host}",
            f"--port={port}",
            "--no-dashboard",
            f"--dashboard-address={host}:0",
        )
        self._wait_for(process, "Scheduler at:")
        return process

    def worker(self, address: str, host: str, inside: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start a worker with a nanny."""
        return self._start(
            inside,
            "distributed.cli.dask_worker",
            address,
            f"--host={host}",
            "--nthreads=1",
            "--memory-limit=1GiB",
            "--no-dashboard",
            "--death-timeout=30",
            f"--local-directory={self.folder}",
        )

    def end(self) -> None:
        """End every process that was started here, and those that it started."""
        for process in self.started:
            kill(process)

    def _start(self, inside: Sequence[str], module: str, *arguments: str) -> subprocess.Popen[bytes]:
        return self.command(inside, [sys.executable, "-m", module, *arguments])

    def command(self, inside: Sequence[str], words: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start any command."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = os.environ | SILENCE | {"PYTHONPATH": str(ROOT)}
        with self._log(len(self.started)).open("wb") as log:
            process = subprocess.Popen(
                [*inside, *words],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=environment,
                start_new_session=True,  # so that it can be ended with its children
            )
        self.started.append(process)
        return process

    def _log(self, number: int) -> Path:
        return self.folder / f"process-{number}.log"

    def _wait_for(self, process: subprocess.Popen[bytes], text: str) -> None:
        log = self._log(self.started.index(process))
        for _ in range(600):
            if text in log.read_text():
                return
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        raise AssertionError(log.read_text())


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)


@contextmanager
def machines(folder: Path) -> Iterator[Machines]:
    """Start processes in a ``with`` block."""
    found = Machines(folder)
    try:
        yield found
    finally:
        found.end()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind((host, 0))
        return int(one.getsockname()[1])
