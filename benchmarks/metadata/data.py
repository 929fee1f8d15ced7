"""The runs that both sides write and read: the same numbers from the same seeds. Needs the standard library only.

MLflow's side runs in an environment of its own, where nothing of ours is installed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = [
    "FILTER",
    "LISTED",
    "METRICS",
    "PARAMS",
    "PIPELINES",
    "GivenRun",
    "given_run",
    "given_runs",
    "pair",
]

PARAMS = 20
METRICS = 10
PIPELINES = 20
LISTED = 100
"""How many runs a list or a search answers with."""

FILTER = ("m0", 0.9, "p1", "3")
"""Runs whose last m0 is above that and whose p1 is this; about one of a hundred, the greatest m0 first."""

BEGIN_US = 1_767_225_600_000_000  # 2026-01-01, and a second more for each run


@dataclass(frozen=True)
class GivenRun:
    """One run: the first param is its number; ``steps`` are the metrics of each step."""

    number: int
    pipeline: str
    began_us: int
    params: Mapping[str, str]
    steps: tuple[Mapping[str, float], ...]


def given_run(number: int, n_steps: int) -> GivenRun:
    """Return the run of this number."""
    dice = random.Random(number)
    params = {"p0": str(number)} | {f"p{n}": str(dice.randrange(10)) for n in range(1, PARAMS)}
    steps = tuple({f"m{n}": dice.random() for n in range(METRICS)} for _ in range(n_steps))
    return GivenRun(number, f"late-{number % PIPELINES}", BEGIN_US + number * 1_000_000, params, steps)


def given_runs(count: int, n_steps: int, *, batch: int) -> Iterator[list[GivenRun]]:
    """Return the first runs, some at a time."""
    for start in range(0, count, batch):
        yield [given_run(number, n_steps) for number in range(start, min(start + batch, count))]


def pair(count: int) -> tuple[int, int]:
    """Return the numbers of the two runs that are compared."""
    return count // 3, count // 2
