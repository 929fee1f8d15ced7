"""Processes that are started, measured and ended here: servers by their own process id, and nothing else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Running", "cpu_seconds", "free_port", "run_to_end", "running", "until"]

TO_START, TO_END = 90.0, 20.0
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Running:
    """A server that is running."""

    pid: int
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu(self) -> float:
        """Return the CPU seconds that it and its children have taken."""
        return cpu_seconds(self.pid)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    port: int,
    log: Path,
    ready: Callable[[], bool],
    environment: dict[str, str] | None = None,
) -> Iterator[Running]:
    """Start a server, wait until it is ready, and end it with its children.

    Raises:
        RuntimeError: It ended by itself or is not ready in time; its last words are in the message.
    """
    process = _started(command, log, environment)
    try:
        until(lambda: process.poll() is not None or ready(), TO_START, what=f"{command[0]}: {_tail(log)}")
        if process.poll() is not None:
            raise RuntimeError(f"{' '.join(map(str, command))} ended: {_tail(log)}")
        yield Running(process.pid, port, log)
    finally:
        _end(process)


def _started(
    command: Sequence[str | Path], log: Path, environment: dict[str, str] | None
) -> subprocess.Popen[bytes]:
    with log.open("wb") as told:
        return subprocess.Popen(
            [str(word) for word in command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=told,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )


def run_to_end(
    command: Sequence[str | Path],
    *,
    log: Path,
    within: float,
    environment: dict[str, str] | None = None,
) -> None:
    """Run a command that ends by itself.

    Raises:
        RuntimeError: It failed or took too long; its last words are in the message.
    """
    process = _started(command, log, environment)
    try:
        code = process.wait(within)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not done in {within:.0f} s") from None
    finally:
        _end(process)
    if code:
        raise RuntimeError(_tail(log))


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process and all below it; ended children count once they are waited for."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for one in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = one.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def until(holds: Callable[[], bool], seconds: float, *, what: str = "") -> None:
    """Wait until something holds.

    Raises:
        RuntimeError: It did not in time.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not ready within {seconds:.0f} s {what}")
        time.sleep(0.05)


def _tail(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-3:])[-600:]


def _end(process: subprocess.Popen[bytes]) -> None:
    # The whole session that was started above: a worker must not outlive its server and slow the next one down.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(TO_END)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
