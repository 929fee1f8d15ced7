"""What a card can do at most, measured on itself, and how busy it was meanwhile, as the driver says."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import mean, median
from time import perf_counter
from typing import Literal

import torch

__all__ = ["Busy", "Device", "Limits", "limits", "name_of", "watched"]

Device = Literal["cuda", "cpu"]
EVERY_MS = 200
RUNS = 10
SIZES = {"cuda": (8192, 1 << 30), "cpu": (256, 1 << 22)}  # of a matrix's side, and floats that are copied


@dataclass(frozen=True)
class Limits:
    """Ceilings of a card.

    Attributes:
        flops: Operations a second of a large bf16 matrix product of random numbers.
        bytes: Bytes a second, read and written, of a large copy within its memory.
    """

    flops: float
    bytes: float


@dataclass(frozen=True)
class Busy:
    """Looks at a card.

    Attributes:
        percent: The share of time in which something ran on it, at each look, in percent.
        mib: Memory taken, at each look, MiB.
    """

    percent: tuple[float, ...]
    mib: tuple[float, ...]

    @property
    def usual(self) -> float | None:
        """The mean of the looks, in percent; None where nobody looked."""
        return mean(self.percent) if self.percent else None


def limits(device: Device) -> Limits:
    """Measure the ceilings, medians of some runs after three that are not counted."""
    side, many = SIZES[device]
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.randn(many, device=device)
    into = torch.empty_like(source)
    product = _seconds(lambda: torch.mm(a, b), device)
    copy = _seconds(lambda: into.copy_(source), device)
    return Limits(2 * side**3 / product, 2 * 4 * many / copy)


def name_of(device: Device) -> str:
    """What it is called."""
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


@contextmanager
def watched() -> Iterator[list[Busy]]:
    """Ask the driver's own tool several times a second meanwhile.

    Yields:
        A list in which what was seen is at the end; of nothing where there is no such tool.
    """
    seen: list[Busy] = []
    tool = shutil.which("nvidia-smi")
    if tool is None:
        yield seen
        seen.append(Busy((), ()))
        return
    asked = "--query-gpu=utilization.gpu,memory.used"
    command = [tool, "--id=0", asked, "--format=csv,noheader,nounits", f"--loop-ms={EVERY_MS}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield seen
    finally:
        process.terminate()
        seen.append(read(process.communicate()[0]))


def read(said: str) -> Busy:
    """What the tool wrote, one look a line; the line in which it was ended is left out."""
    looks = []
    for line in said.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 2 and all(part.isdigit() for part in parts):
            looks.append((float(parts[0]), float(parts[1])))
    return Busy(tuple(one for one, _ in looks), tuple(other for _, other in looks))


def _seconds(call: Callable[[], object], device: Device) -> float:
    taken = []
    for run in range(3 + RUNS):
        _wait(device)
        start = perf_counter()
        call()
        _wait(device)
        if run >= 3:
            taken.append(perf_counter() - start)
    return median(taken)


def _wait(device: Device) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
