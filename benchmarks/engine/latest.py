"""Latest values: five views with four features each, at several sizes, under ``event`` and ``known``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.engine.comparison import LIMITS, bounded, compared, reachable, timed
from benchmarks.engine.data import latest_world
from benchmarks.engine.job import Job, Result
from benchmarks.engine.measured import GIB, measure
from benchmarks.results import Row

__all__ = [
    "SEED",
    "SIZES",
    "Size",
    "feast_dask_rows",
    "in_process_rows",
    "latest_rows",
    "slope_rows",
    "small_job",
]

SEED = 20240101
CLOCKS = ("event", "known")
PHASES = ("cold", "warm")
SLOWER_UNDER_KNOWN = 1 / 2  # at most 2 times ``event``
Seconds = dict[str, dict[int, float]]  # by clock and phase, then by source rows


@dataclass(frozen=True, slots=True)
class Size:
    """One size of the comparison.

    Attributes:
        name: As it is called.
        events: Source rows, over all views.
        rows: Entity rows.
        peers: Who is compared.
        goals: The ratio to reach, by phase and peer.
        within: Seconds after which a contestant is ended.
    """

    name: str
    events: int
    rows: int
    peers: tuple[str, ...]
    goals: Mapping[tuple[str, str], float]
    within: float


SIZES = {
    "1M": Size("1M/100k", 1_000_000, 100_000, ("polars", "DuckDB", "Feast DuckDB", "dask.dataframe P2P", *LIMITS), {}, 60),
    "10M": Size(
        "10M/1M",
        10_000_000,
        1_000_000,
        ("polars", "DuckDB", "Feast DuckDB", "dask.dataframe P2P", *LIMITS),
        {("cold", "Feast DuckDB"): 15.0, ("warm", "Feast DuckDB"): 25.0},
        150,
    ),
    "100M": Size(
        "100M/5M",
        100_000_000,
        5_000_000,
        ("polars", "DuckDB", "dask.dataframe P2P", *LIMITS),
        {
            ("cold", "polars"): 2.5,
            ("cold", "DuckDB"): 4.0,
            ("cold", "the limit"): 1 / 1.6,
            ("warm", "the limit"): 1 / 0.6,
        },
        300,
    ),
}  # fmt: skip


def small_job(folder: Path) -> Job:
    """Return a job to warm up with."""
    return latest_world(folder / "small", 10_000, 1_000, 100, seed=SEED)


def latest_rows(folder: Path, size: Size, small: Job, spent: Seconds, *, zipf: bool = False) -> list[Row]:
    """Compare ours on two workers with all peers at one size.

    Args:
        folder: For the data, which is deleted again.
        size: Which.
        small: To warm up with.
        spent: Our times are added to it.
        zipf: Whether keys are as unlike as words are, or uniform.
    """
    name = f"latest {size.name}{' Zipf' if zipf else ''}"
    job = latest_world(folder / "world", size.events, size.rows, size.events // 100, seed=SEED, zipf=zipf)
    ours = {
        clock: measure("ours", job.under(clock), small=small.under(clock), phases=PHASES, within=size.within)
        for clock in CLOCKS
    }
    rows, results = [], dict[str, Result]()
    for peer in size.peers:
        theirs = results[peer] = measure(peer, job, small=small, within=size.within)
        rows += [
            compared(
                f"{name}, {phase}", job, ours["event"], peer, theirs,
                phase=phase, goal=size.goals.get((phase, peer)), check=peer not in LIMITS,
            )
            for phase in PHASES
        ]  # fmt: skip
        theirs.forget()
    rows += [
        reachable(f"{name}, cold", limit, results[limit], peer, results[peer], goal)
        for (phase, peer), goal in size.goals.items()
        for limit in LIMITS
        if phase == "cold" and limit in results and peer not in LIMITS
    ]
    rows += _of_ours(name, job, ours)
    if size.events <= 10_000_000 and not zipf:
        rows.append(
            _known_checked(name, job.under("known"), small.under("known"), ours["known"], size.within)
        )
    if not zipf:
        for clock, result in ours.items():
            for phase in PHASES if result.done else ():
                spent.setdefault(f"{clock}, {phase}", {})[size.events] = result.seconds[phase]
    shutil.rmtree(folder / "world")
    return rows


def in_process_rows(folder: Path, small: Job) -> list[Row]:
    """Compare ours in process with polars at the size that belongs there."""
    job = latest_world(folder / "world", 1_000_000, 100_000, 10_000, seed=SEED)
    ours = {
        clock: measure("ours in process", job.under(clock), small=small.under(clock), runs=5)
        for clock in CLOCKS
    }
    polars = measure("polars", job, small=small, runs=5)
    name = "latest 1M/100k, in process"
    rows = [
        compared(name, job, ours["event"], "polars", polars, goal=0.9),
        _known(f"{name}, known", ours, "cold"),
    ]
    shutil.rmtree(folder / "world")
    return rows


def feast_dask_rows(folder: Path, small: Job) -> list[Row]:
    """Compare with Feast's default store, at the largest size which that survives for a minute."""
    rows = []
    for events, name in ((1_000_000, "1M/100k"), (300_000, "300k/30k"), (100_000, "100k/10k")):
        job = latest_world(folder / "world", events, events // 10, events // 100, seed=SEED)
        theirs = measure("Feast Dask", job, small=small, within=60)
        for contestant, phase in (("ours", "cold"), ("ours in process", "in process")):
            ours = measure(contestant, job, small=small)
            # The goal is set at 1M; below that a cluster is no way to do it.
            goal = 25.0 if events == 1_000_000 else None
            rows.append(compared(f"latest {name}, {phase}", job, ours, "Feast Dask", theirs, goal=goal))
        shutil.rmtree(folder / "world")
        if theirs.done:
            break
    return rows


def slope_rows(spent: Seconds) -> list[Row]:
    """Fit how our cost grows: 1 is in proportion to the source rows."""
    rows = []
    for name, by_size in spent.items():
        if len(by_size) < 2:
            continue
        slope = float(np.polyfit(*(np.log(list(of)) for of in (by_size, by_size.values())), 1)[0])
        sizes = f"{min(by_size) // 1_000_000}M to {max(by_size) // 1_000_000}M"
        rows.append(
            bounded(f"latest {sizes}, {name}", "log-log slope of wall s", slope, "in proportion", 1.0)
        )
    return rows


def _of_ours(name: str, job: Job, ours: Mapping[str, Result]) -> list[Row]:
    """Warm beside cold, ``known`` beside ``event``, and a worker's memory."""
    rows = []
    for clock, result in ours.items():
        case = f"{name}, warm{', known' if clock == 'known' else ''}"
        rows.append(compared(case, job, result, "ours, cold", result, phase="warm"))
    rows += [_known(f"{name}, {phase}, known", ours, phase) for phase in PHASES]
    for clock, result in ours.items():
        case = f"{name}{', known' if clock == 'known' else ''}"
        for kind, most in (("resident", result.worker_rss), ("private", result.worker_uss)):
            rows.append(
                bounded(case, f"GiB a worker, {kind}", most / GIB if result.done else None, "the bound", 1.0)
            )
    return rows


def _known(case: str, ours: Mapping[str, Result], phase: str) -> Row:
    mine, other = (
        ours[clock].seconds.get(phase) if ours[clock].done else None for clock in ("known", "event")
    )
    bad = [f"{clock}: {result.outcome}" for clock, result in ours.items() if not result.done]
    return timed(case, mine, "ours, event", other, goal=SLOWER_UNDER_KNOWN, note="; ".join(bad))


def _known_checked(name: str, job: Job, small: Job, ours: Result, within: float) -> Row:
    """Under ``known`` only a range join says the same; it also holds our values to someone else's."""
    theirs = measure("DuckDB", job, small=small, within=within)
    return compared(f"{name}, cold, known", job, ours, "DuckDB range join", theirs)
