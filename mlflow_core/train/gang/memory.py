"""How much memory this process may still take: a Dask worker its limit, another process what its machine has left.

In a container the machine is what its control groups leave: for each of them, its limit less what it uses, without the
cache of files, which the kernel gives back when it is asked for memory. Nothing is reserved, and nothing remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["memory_here", "memory_left"]

_LIMITS: Final = {
    "memory.max": ("memory.current", "inactive_file"),
    "memory.limit_in_bytes": ("memory.usage_in_bytes", "total_inactive_file"),
}
"""The files of a control group, of version 2 and 1: its limit, what it uses, and the cache of files in its statistics."""


def memory_here() -> int:
    """How many bytes this process may take.

    Returns:
        On a Dask worker with a limit that limit, however much of it is used: the worker's whole process counts. Else what
        the machine has left.
    """
    from distributed import get_worker

    try:
        limit = get_worker().memory_manager.memory_limit
    except ValueError:  # it is no worker
        limit = None
    return int(limit) if limit else memory_left()


def memory_left(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """How many bytes the machine, and the control groups of this process, have left.

    Args:
        groups: Where the kernel shows control groups.
        own: The file that says which of them this process is in.

    Example:
        >>> memory_left() > 0
        True
    """
    import psutil

    return max(0, min([int(psutil.virtual_memory().available), *_rooms(groups, own)]))


def _rooms(groups: Path, own: Path) -> Iterator[int]:
    """What each control group with a limit has left."""
    for folder in _folders(groups, own):
        for limit, (used, cached) in _LIMITS.items():
            try:
                most = (folder / limit).read_text().strip()
                if most != "max":
                    yield int(most) - int((folder / used).read_text()) + _statistic(folder, cached)
            except OSError:
                continue  # of the other version, the root of all, which has no limit, or not for us to see


def _folders(groups: Path, own: Path) -> Iterator[Path]:
    """The folders of this process's groups, each with those above it; a container may see only the topmost."""
    try:
        lines = own.read_text().splitlines()
    except FileNotFoundError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = groups / "memory" if controllers else groups
        inner = top / path.lstrip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(top))


def _statistic(folder: Path, name: str) -> int:
    for line in (folder / "memory.stat").read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
