"""The same comparisons at a size where only equality can be seen, in this process and on one cluster, in seconds."""

from __future__ import annotations

from pathlib import Path

from benchmarks.engine.cluster import two_workers
from benchmarks.engine.comparison import LIMITS, compared
from benchmarks.engine.data import latest_world, windows_world
from benchmarks.engine.hard import hard_rows
from benchmarks.engine.latest import SEED
from benchmarks.engine.measured import run_here
from benchmarks.results import Row

__all__ = ["small_rows"]


def small_rows(folder: Path) -> list[Row]:
    """Hold every contestant's values to ours in process, without goals."""
    latest = latest_world(folder / "latest", 10_000, 1_000, 100, seed=SEED)
    zipf = latest_world(folder / "zipf", 10_000, 1_000, 100, seed=SEED, zipf=True)
    windows = windows_world(folder / "windows", 5_000, 500, 10, seed=SEED)
    jobs = {
        "latest": latest,
        "latest Zipf": zipf,
        "latest, known": latest.under("known"),
        "windows": windows,
        "windows, known": windows.under("known"),
    }
    ours = dict(zip(jobs, run_here("ours in process", list(jobs.values())), strict=True))
    rows = []
    with two_workers():
        for peer, cases in _PEERS.items():
            theirs = run_here(peer, [jobs[case] for case in cases])
            rows += [
                compared(f"{case}, small", jobs[case], ours[case], peer, result, check=peer not in LIMITS)
                for case, result in zip(cases, theirs, strict=True)
            ]
    return rows + hard_rows(folder / "hard", 200, seed=SEED, ours=("ours in process",))


_PEERS = {
    "ours": ("latest", "latest Zipf", "latest, known", "windows"),
    "polars": ("latest", "latest Zipf", "windows"),
    "DuckDB": ("latest", "latest Zipf", "latest, known", "windows", "windows, known"),
    "Feast Dask": ("latest",),
    "Feast DuckDB": ("latest",),
    "dask.dataframe P2P": ("latest",),
    "the limit": ("latest",),
    "the limit, sorted": ("latest",),
}
