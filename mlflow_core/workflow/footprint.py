"""What a step that works in the driver's process uses: the peak of that process's memory, and its processor time.

Both are the whole process's. The peak is the most memory that it had resident at any moment of the step, what it holds
anyway included: the interpreter, libraries, what earlier steps left. The time is that of all its threads. Such steps run
one at a time, so each has its own; a user's step that runs beside one has a process of its own, and adds here only what
waiting for it costs. What Dask's workers use is not in it: their processes are others, and tell no peak of one step. Two
drivers in one process, in two threads, would begin each other's peak anew: each then has a lower bound.

On Linux the kernel keeps the peak, and it is begun anew for each step: writing 5 to ``clear_refs`` sets it to what is
resident now, and ``VmHWM`` tells it (proc(5)). Where that is refused, a thread looks every 20 ms instead, and misses
what comes and goes in between.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from mlflow_core.workflow.told import Usage

__all__ = ["Footprint"]

_LOOK_S = 0.02
_PROC = Path("/proc/self")
_PEAK = b"VmHWM:"


class Footprint:
    """Measures from when it is made until it is completed.

    Args:
        proc: What the kernel tells of this process.

    Example:
        >>> footprint, usage = Footprint(), Usage()
        >>> held = bytearray(1 << 20)
        >>> footprint.complete(usage)
        >>> usage.memory_bytes > len(held), usage.cpu_us >= 0
        (True, True)
    """

    def __init__(self, proc: Path = _PROC) -> None:
        self._proc = proc
        self._looking = None if _begin_anew(proc) else _Looking()
        self._cpu_ns = time.process_time_ns()

    def complete(self, usage: Usage) -> None:
        """End, and fill in what the step did not tell itself.

        Args:
            usage: What it told.
        """
        cpu_us = (time.process_time_ns() - self._cpu_ns) // 1000
        peak = _peak(self._proc) if self._looking is None else self._looking.end()
        if usage.cpu_us is None:
            usage.cpu_us = cpu_us
        if usage.memory_bytes is None:
            usage.memory_bytes = peak


def _begin_anew(proc: Path) -> bool:
    """Let the kernel forget the peak; False where it does not, or tells none."""
    try:
        with (proc / "clear_refs").open("wb", buffering=0) as file:
            file.write(b"5")
    except OSError:
        return False
    return _peak(proc) is not None


def _peak(proc: Path) -> int | None:
    """The peak in bytes since it was begun anew; None where the kernel tells none."""
    for line in (proc / "status").read_bytes().splitlines():
        if line.startswith(_PEAK):
            return int(line.split()[1]) << 10
    return None


class _Looking:
    """A thread that looks now and then how much is resident."""

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self._most = self._resident()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="footprint", daemon=True)
        self._thread.start()

    def end(self) -> int:
        self._ended.set()
        self._thread.join()
        return max(self._most, self._resident())

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_S):
            self._most = max(self._most, self._resident())

    def _resident(self) -> int:
        return int(self._process.memory_info().rss)
