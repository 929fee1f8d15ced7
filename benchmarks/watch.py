"""A look at a contestant's memory ten times a second, and an end to it where it takes too long or too much.

What is a process' own is looked at once a second: the kernel walks through all of its pages for that (measured: a
twentieth of two cores' time, beside workers that had files mapped).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

__all__ = ["GIB", "Watch"]

EVERY = 0.1  # seconds between two looks at memory
OWN_EVERY = 10  # looks between two at what is a process' own
GIB = 1 << 30
TO_START = 180  # seconds for imports, a cluster and the warm-up
MOST = 12 * GIB  # bytes that a contestant may take in all


class Watch:
    """Looks at a process and its children until it ends, and ends it where it must.

    Args:
        process: The process, leader of a process group of its own.
        ready: The file that it makes when time begins to count.
        within: Seconds that it may take from then on.
        measured: The file that it makes when its memory no longer counts; None to the end.
        pause: The file that is there while neither time nor memory counts.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        ready: Path,
        within: float,
        measured: Path | None = None,
        pause: Path | None = None,
    ) -> None:
        self.process, self.ready, self.within = process, ready, within
        self.measured, self.pause = measured, pause
        self.deadline, self.counting = time.monotonic() + TO_START, False
        self.most = min(MOST, int(psutil.virtual_memory().available * 0.7))
        self.peak = self.worker_rss = self.worker_uss = self.looks = 0

    def until_the_end(self) -> str:
        try:
            while self.process.poll() is None:
                if not self.counting and self.ready.exists():
                    self.deadline, self.counting = time.monotonic() + self.within, True
                if self.pause is not None and self.pause.exists():
                    self.deadline += EVERY
                    time.sleep(EVERY)
                    continue
                if time.monotonic() > self.deadline:
                    return "over time" if self.counting else f"not ready within {TO_START} s"
                if self._look() > self.most:
                    return f"killed at {self.most / GIB:.0f} GiB"
                time.sleep(EVERY)
        finally:
            self._end()
        return "failed" if self.process.returncode else "done"

    def _look(self) -> int:
        own, self.looks = self.looks % OWN_EVERY == 0, self.looks + 1
        try:
            parent = psutil.Process(self.process.pid)
            children = parent.children(recursive=True)
            total = parent.memory_info().rss
        except psutil.NoSuchProcess:
            return 0
        for child in children:
            try:
                # A worker of Dask is a child of the process that watches over it.
                memory = child.memory_full_info() if own else child.memory_info()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            total += memory.rss
            if not self._is_measured:
                self.worker_rss = max(self.worker_rss, memory.rss)
                self.worker_uss = max(self.worker_uss, getattr(memory, "uss", 0))
        if not self._is_measured:
            self.peak = max(self.peak, total)
        return total

    @property
    def _is_measured(self) -> bool:
        return self.measured is not None and self.measured.exists()

    def _end(self) -> None:
        # Its whole session: a contestant's workers must not outlive it and slow the next one down.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
