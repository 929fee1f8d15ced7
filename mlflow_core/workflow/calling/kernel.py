"""What the operating system is asked about processes: who dies with whom, who is left, how much memory they use.

Linux says it all; elsewhere a step's process group stands for the processes that it started.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["Prctl", "adopt_orphans", "die_with_parent", "first_to_go", "memory_of", "offspring", "prepared"]

Prctl = Callable[[int, int], None] | None
"""The system call of that name, with an option and a value; None where there is none."""

_PDEATHSIG: Final = 1
_SUBREAPER: Final = 36


def prepared() -> Prctl:
    """Return the system call ``prctl``, looked up once, or None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    function = ctypes.CDLL(None, use_errno=True).prctl

    def call(option: int, value: int) -> None:
        if function(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")

    return call


def die_with_parent(prctl: Prctl, parent: int) -> None:
    """Let the kernel kill this process when its parent ends, however it ends.

    Args:
        prctl: From ``prepared``.
        parent: The parent; if it has ended already, this process does so now.
    """
    if prctl is not None:
        prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans(prctl: Prctl) -> None:
    """Let processes below this one become its children when their parents end, so that none is out of reach."""
    if prctl is not None:
        prctl(_SUBREAPER, 1)


def first_to_go(points: int = 300) -> None:
    """Let the kernel, when memory runs out, rather end this process than the worker that watches it."""
    with suppress(OSError):
        file = Path("/proc/self/oom_score_adj")
        file.write_text(str(min(1000, int(file.read_text()) + points)))


def offspring(root: int) -> list[int]:
    """Return all processes below one, also those that left its process group; none where the kernel does not tell."""
    found: list[int] = []
    front = [root]
    while front:
        front = [child for one in front for child in _children(one)]
        found += front
    return found


def memory_of(processes: list[int]) -> int:
    """Return the bytes of memory that processes have in use, shared ones counted once per process."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = 0
    for process in processes:
        with suppress(OSError, IndexError, ValueError):
            resident, shared = Path(f"/proc/{process}/statm").read_text().split()[1:3]
            total += (int(resident) - int(shared)) * page
    return total


def _children(process: int) -> list[int]:
    told: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            with suppress(OSError):
                told += [int(one) for one in (task / "children").read_text().split()]
    return told
