"""Windows: five aggregates over 6, 24 and 72 hours, from files to files."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.engine.comparison import LIMITS, bounded, compared, reachable, timed
from benchmarks.engine.data import windows_world
from benchmarks.engine.job import Result
from benchmarks.engine.latest import CLOCKS, PHASES, SEED, SLOWER_UNDER_KNOWN
from benchmarks.engine.measured import GIB, measure
from benchmarks.results import Row

__all__ = ["windows_rows"]

GOAL = 8.0


def windows_rows(
    folder: Path, n_events: int, name: str, *, within: float, goal: float | None = None
) -> list[Row]:
    """Compare ours with polars' rolling aggregates, DuckDB's range join and the limits.

    Args:
        folder: For the data, which is deleted again.
        n_events: Events of one source; a tenth as many entity rows, a thousandth as many keys, 30 days.
        name: The size as it is called.
        within: Seconds after which a contestant is ended.
        goal: The ratio to polars that is to be reached, end to end.
    """
    small = windows_world(folder / "small windows", 10_000, 1_000, 10, seed=SEED)
    job = windows_world(folder / "world", n_events, n_events // 10, n_events // 1_000, seed=SEED)
    ours = {
        clock: measure("ours", job.under(clock), small=small.under(clock), phases=PHASES, within=within)
        for clock in CLOCKS
    }
    here = measure("ours in process", job, small=small, within=within)
    rows, results = [], dict[str, Result]()
    for contestant, peer, reach in (
        ("polars", "polars rolling", goal),
        ("DuckDB", "DuckDB range join", None),
        *((limit, limit, None) for limit in LIMITS),
    ):
        theirs = results[contestant] = measure(contestant, job, small=small, within=within)
        case = f"windows {name}"
        rows += [
            compared(f"{case}, {phase}", job, ours["event"], peer, theirs, phase=phase,
                     goal=reach if phase == "cold" else None, check=peer not in LIMITS)
            for phase in PHASES
        ]  # fmt: skip
        if peer not in LIMITS:
            rows.append(compared(f"{case}, in process", job, here, peer, theirs))
        theirs.forget()
    if goal is not None:
        rows += [
            reachable(
                f"windows {name}, cold", limit, results[limit], "polars rolling", results["polars"], goal
            )
            for limit in LIMITS
        ]
    known = measure("DuckDB", job.under("known"), small=small.under("known"), within=within)
    rows.append(compared(f"windows {name}, cold, known", job, ours["known"], "DuckDB range join", known))
    for phase in PHASES:
        mine, other = (
            ours[clock].seconds.get(phase) if ours[clock].done else None for clock in ("known", "event")
        )
        case = f"windows {name}, {phase}, known"
        rows.append(timed(case, mine, "ours, event", other, goal=SLOWER_UNDER_KNOWN))
    for clock, result in ours.items():
        most = result.worker_rss / GIB if result.done else None
        case = f"windows {name}{', known' if clock == 'known' else ''}"
        rows.append(bounded(case, "GiB a worker, resident", most, "the bound", 1.0))
    shutil.rmtree(folder / "small windows")
    shutil.rmtree(folder / "world")
    return rows
