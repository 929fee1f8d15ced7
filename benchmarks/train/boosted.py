"""XGBoost: ours against its Dask interface and against pandas, quality first, then time and memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import Row
from benchmarks.train.data import training_set
from benchmarks.train.measured import Trained, measure

__all__ = ["boosted_rows", "external_rows"]

LIMIT, ONE_PROCESS = "XGBoost alone", "ours, one process"
EXTERNAL, LIMIT_EXTERNAL = "ours, external memory", "XGBoost alone, in files"
PEAK = "peak GiB of the largest process"
MOST_AUC = 0.002  # difference up to which two models are as good as each other
PAIRS = (
    ("ours, two workers", "xgboost.dask", 1 / 0.5, 1 / 0.65),
    (ONE_PROCESS, "pandas", 1 / 0.7, 1 / 0.35),
)


def boosted_rows(scratch: Path, sizes: Sequence[tuple[int, int]], *, goals: bool = True) -> list[Row]:
    """Train on each size (rows, features) with everybody; time and memory only where the quality is the same."""
    rows = []
    small = training_set(scratch / "warm", 8_000, 50)
    for count, features in sizes:
        data = training_set(scratch / f"{count}x{features}", count, features)
        names = [*(name for pair in PAIRS for name in pair[:2]), LIMIT]
        warm = small if features == 50 else _like(scratch, features)
        found = {name: measure(name, warm, data, scratch) for name in names}
        case = f"XGBoost, {count:,} x {features}"
        for ours, peer, time, memory in PAIRS:
            rows += _compared(
                case,
                ours,
                found[ours],
                peer,
                found[peer],
                goal=time if goals else None,
                memory=memory if goals else None,
            )
            rows += _limited(case, ours, found[ours], peer, found[peer], found[LIMIT])
    return rows


def _limited(case: str, ours: str, mine: Trained, peer: str, theirs: Trained, limit: Trained) -> list[Row]:
    """Ours beside what XGBoost takes alone, which is the most that a ratio to the peer can be."""
    case, who = f"{case}: {ours}", f"the limit: {LIMIT}"
    if limit.seconds is None:
        return [Row(case, "wall s", mine.seconds, who, None, None, note=limit.outcome)]
    figures = [("wall s", mine.seconds, theirs.seconds, limit.seconds)]
    if ours == ONE_PROCESS:  # whose one process holds all rows, as the limit's does
        figures.append((PEAK, *(one.process / 2**30 for one in (mine, theirs, limit))))
    return [
        Row(
            case,
            metric,
            own,
            who,
            least,
            least / own,
            note=f"{peer}'s over it: {other / least:.2f}; its AUC {limit.quality:.4f}",
        )
        for metric, own, other, least in figures
        if own and other
    ]


def external_rows(
    scratch: Path, sizes: Sequence[int], features: int = 50, *, goals: bool = True
) -> list[Row]:
    """Memory and time per row of external memory from the smallest to the largest size; both are to stay."""
    found: dict[str, list[Trained]] = {EXTERNAL: [], LIMIT_EXTERNAL: []}
    for count in sizes:
        data = training_set(scratch / f"{count}x{features}", count, features)
        for name, runs in found.items():
            runs.append(measure(name, _like(scratch, features), data, scratch, within=900.0))
    rows = []
    for place, count in enumerate(sizes[1:], 1):
        case = f"XGBoost in files, {sizes[0]:,} to {count:,} x {features}"
        few, many = (found[EXTERNAL][at] for at in (0, place))
        rows.append(_grown(case, "peak GiB", _gib(few), _gib(many), 1.5 if goals else None))
        if few.seconds and many.seconds:
            each = [1e6 * run.seconds / size for run, size in ((few, sizes[0]), (many, count)) if run.seconds]
            rows.append(_grown(case, "us a row", *each, 1.25 if goals else None))
        alone = found[LIMIT_EXTERNAL]
        rows.append(_against_the_limit(case, (few, many), (alone[0], alone[place]), count - sizes[0]))
    return rows


def _against_the_limit(
    case: str, ours: tuple[Trained, Trained], alone: tuple[Trained, Trained], more: int
) -> Row:
    """By how much memory grows with each row, ours and XGBoost's alone: what it keeps of each is out of reach."""
    mine, least = ((many.process - few.process) / more for few, many in (ours, alone))
    note = f"its peak {_gib(alone[0]):.3f} and {_gib(alone[1]):.3f} GiB"
    if alone[1].seconds is None:
        note = alone[1].outcome
    metric = "bytes a row by which the peak grows"
    return Row(case, metric, mine, f"the limit: {LIMIT}", least, least / mine, note=note)


def _gib(one: Trained) -> float:
    return one.process / 2**30


def _like(scratch: Path, features: int):
    return training_set(scratch / f"warm{features}", 8_000, features)


def _grown(case: str, metric: str, first: float, last: float, most: float | None) -> Row:
    ratio = first / last
    goal = None if most is None else 1 / most
    return Row(
        case,
        f"{metric}, largest against smallest",
        last,
        "ours, smallest",
        first,
        ratio,
        goal,
        None if goal is None else ratio >= goal,
    )


def _compared(
    case: str,
    ours: str,
    mine: Trained,
    peer: str,
    theirs: Trained,
    *,
    goal: float | None,
    memory: float | None,
) -> list[Row]:
    case = f"{case}: {ours}"
    if mine.quality is None or theirs.quality is None:
        who = f"ours: {mine.outcome}" if mine.quality is None else f"{peer}: {theirs.outcome}"
        return [Row(case, "wall s", mine.seconds, peer, theirs.seconds, None, goal, False, None, who)]
    equal = abs(mine.quality - theirs.quality) <= MOST_AUC
    note = f"AUC {mine.quality:.4f} and {theirs.quality:.4f}"
    figures = (
        ("wall s", mine.seconds, theirs.seconds, goal),
        (PEAK, mine.process / 2**30, theirs.process / 2**30, memory),
    )
    made = []
    for metric, ours_, peers, wanted in figures:
        ratio = peers / ours_ if equal and ours_ and peers else None
        holds = None if wanted is None else ratio is not None and ratio >= wanted
        made.append(Row(case, metric, ours_, peer, peers, ratio, wanted, holds, equal, note))
    return made
