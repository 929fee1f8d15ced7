"""Rows about writing: entity rows a second, memory, and what the store takes, for each store."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.online.prepared import Prepared, Written
from benchmarks.online.world import VIEWS
from benchmarks.online.write_limits import write_limit_rows
from benchmarks.results import Row

__all__ = ["STORES", "compare_written", "materialising_rows"]

STORES = ("redis", "sqlite", "postgres")
PEER = "Feast, local engine"
FASTER = {"redis": 40.0, "sqlite": 20.0, "postgres": 20.0}
SMALLER = {"redis": 1 / 0.90, "sqlite": 5.0}
TAKES = {"redis": "Redis' memory, MiB", "sqlite": "file, MiB", "postgres": "tables and indexes, MiB"}
LESS_MEMORY = 4.0
MIB = 1 << 20


def materialising_rows(prepared: Prepared, stores: Sequence[str], *, large: bool = False) -> list[Row]:
    """Write with both to each store, and compare; ``large`` says that imports are not most of the memory."""
    rows: list[Row] = []
    for store in stores:
        theirs, ours = prepared.written("feast", store), prepared.written("ours", store)
        rows += compare_written(store, prepared.n_entities, ours, theirs, large=large)
        if store == "redis":
            n, rate = prepared.n_entities * len(VIEWS), None
            if not (ours.failure or ours.differing):
                rate = n / ours.seconds
            case = f"materialise {prepared.n_entities:,} x {len(VIEWS)} views, redis"
            rows += write_limit_rows(case, prepared.n_entities, rate, prepared.scratch, prepared.said)
    return rows


def compare_written(
    store: str, n_entities: int, ours: Written, theirs: Written, *, large: bool = False
) -> list[Row]:
    """Compare two materialisations: values first."""
    case = f"materialise {n_entities:,} x {len(VIEWS)} views, {store}"
    if ours.failure or theirs.failure:
        note = f"ours: {ours.failure}" if ours.failure else theirs.failure
        return [Row(case, "entity rows/s", None, PEER, None, None, FASTER[store], False, None, note)]
    equal = not ours.differing and not theirs.differing
    n_rows = n_entities * len(VIEWS)

    def row(metric: str, mine: float, other: float, ratio: float | None, goal: float | None) -> Row:
        taken = ratio if equal else None
        holds = None if goal is None else taken is not None and taken >= goal
        return Row(case, metric, mine, PEER, other, taken, goal, holds, equal)

    def less(metric: str, mine: float, other: float, goal: float | None) -> Row:
        return row(metric, mine / MIB, other / MIB, other / mine if mine > 0 else None, goal)

    return [
        row(
            "entity rows/s",
            n_rows / ours.seconds,
            n_rows / theirs.seconds,
            theirs.seconds / ours.seconds,
            FASTER[store],
        ),
        less("peak memory, MiB", ours.peak, theirs.peak, LESS_MEMORY if large else None),
        less(
            "memory above the start's, MiB",
            ours.peak - ours.before,
            theirs.peak - theirs.before,
            LESS_MEMORY,
        ),
        less(TAKES[store], ours.stored, theirs.stored, SMALLER.get(store)),
    ]
