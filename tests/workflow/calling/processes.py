"""What tests ask about processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def read_when_there(file: Path, within_s: float = 60.0) -> list[int]:
    """The process numbers that a step has written, once it has."""
    return [int(one) for one in when(lambda: file.exists() and file.read_text().split(), within_s)]


def when(happens: Callable[[], Any], within_s: float = 60.0) -> Any:
    """Wait until something is true, and return it."""
    give_up = time.monotonic() + within_s
    while not (found := happens()):
        assert time.monotonic() < give_up, "it never happened"
        time.sleep(0.05)
    return found


def alive(process: int) -> bool:
    """Whether a process is there and is not only waiting to be buried."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
