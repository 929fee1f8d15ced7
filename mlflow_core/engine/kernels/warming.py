"""Compiling every kernel now, so that nobody waits for it later; ``make install`` and ``mlcore doctor --warm`` do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mlflow_core.engine.kernels import blocks, chronology, folds, ordering, picking, ranges, sweeps
from mlflow_core.engine.kernels.schedule import ANSWER
from mlflow_core.engine.times import Int64, frozen
from mlflow_core.telemetry import Progress

__all__ = ["warm"]


def warm(progress: Progress) -> None:
    """Compile every kernel, or read it from the cache.

    Args:
        progress: Told of each kernel.
    """
    one, edge, yes = np.zeros(1, np.int64), np.array([0, 1], np.int64), np.ones(1, np.bool_)
    half, later, nothing = np.full(1, 0.5), np.ones(1, np.int64), np.zeros(0, np.int64)
    table = np.zeros((1, 1), np.int64)
    walked: tuple[Int64, Int64, Int64] = (later * ANSWER, one, edge)
    ranges_of = (table, table + 1, half, nothing, nothing, nothing, one, True, True)
    of_blocks = (np.zeros((3, 0)), np.zeros((5, 0), np.int64), np.zeros((4, 0), np.int64))
    answers = (np.zeros((3, 1, 1)), np.zeros((5, 1, 1), np.int64))
    calls: dict[str, Callable[[], object]] = {
        "tally": lambda: ordering.tally(one, one, 1),
        "by_key": lambda: ordering.by_key(one, one, one, edge),
        "hashes": lambda: ordering.hashes(one),
        "by_hash": lambda: ordering.by_hash(one.astype(np.uint64), one),
        "matched": lambda: ordering.matched(one, one, edge, 0, one.copy(), one.copy(), one.copy()),
        "joined": lambda: ordering.joined(table, table + 1, 1),
        "chronological": lambda: chronology.chronological(frozen(one), frozen(one), one),
        "in_order": lambda: ordering.in_order(edge, one, one),
        "order_within": lambda: ordering.order_within(edge, one),
        "picked numbers": lambda: picking.picked(frozen(half), frozen(yes), frozen(one)),
        "picked integers": lambda: picking.picked(frozen(one), frozen(yes), frozen(one)),
        "reached": lambda: ranges.reached(edge, one, edge, one),
        "at_end": lambda: ranges.at_end(one, later, one, later, one, True, 1),
        "count_seen": lambda: ranges.count_seen(one, later, one, later, one, 1, True, 1),
        "listed": lambda: ranges.listed(one, later, one, later, one, True, True, edge),
        "fold_short": lambda: folds.fold_short(*ranges_of, *answers),
        "blocks": lambda: blocks.blocks(edge, yes, half, nothing, nothing, nothing, True, True),
        "fold_long": lambda: folds.fold_long(edge, edge, *ranges_of, 1, *of_blocks, one, *answers),
        "schedule": lambda: sweeps.schedule(edge, one, later, one, one, edge, one),
        "counts": lambda: sweeps.counts(*walked, yes, 1),
        "distincts": lambda: sweeps.distincts(*walked, yes, one, 1, 1),
        "limbs": lambda: sweeps.limbs(*walked, yes, one, 1),
        "moments": lambda: sweeps.moments_at(*walked, yes, edge, half, 1),
        "ranked": lambda: sweeps.ranked(*walked, yes, edge, one, one, half, 1),
        "between": lambda: sweeps.between(half, half, half),
        "lists": lambda: sweeps.lists(*walked, yes, edge, 1, True, edge),
        "version_ends": lambda: sweeps.version_ends(one, one),
    }
    with progress.stage("compiling kernels", total=len(calls), unit="kernels") as stage:
        for call in calls.values():
            call()
            stage.advance(1)
