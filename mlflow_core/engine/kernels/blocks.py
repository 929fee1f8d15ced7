"""Blocks of events that were folded before: of 16, of 256 and so on, from each key's first event.

``mlflow_core.engine.kernels.folds`` says what for. A block also knows from when to when all of its events are seen,
and from when to when any may be.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_core.engine.kernels.compile import kernel
from mlflow_core.engine.kernels.states import all_of, both
from mlflow_core.engine.times import EARLIEST, NEVER, Flags, Int64

__all__ = ["blocks", "kept"]


@kernel
def kept(numbers: Any, places: Int64, j: int) -> Any:
    """Return a block's state; see ``mlflow_core.engine.kernels.states``.

    Args:
        numbers: From ``blocks``.
        places: From ``blocks``.
        j: Which.
    """
    return (
        places[0, j],
        numbers[0, j],
        numbers[1, j],
        numbers[2, j],
        places[1, j],
        places[2, j],
        places[3, j],
        places[4, j],
    )


@kernel
def _keep(numbers: Any, places: Int64, j: int, state: Any) -> None:
    places[0, j], places[1, j], places[2, j] = state[0], state[4], state[5]
    places[3, j], places[4, j] = state[6], state[7]
    numbers[0, j], numbers[1, j], numbers[2, j] = state[1], state[2], state[3]


@kernel
def _sights(start: Int64, end: Int64, first: int, size: int, at: int, sight: Int64) -> None:
    """Note for each block from when to when all of its events are seen, and from when to when any may be."""
    below, blocks = -1, size // 16
    while blocks > 0:
        for b in range(blocks):
            all_from, all_to = EARLIEST, NEVER
            any_from, any_to = NEVER, EARLIEST
            for j in range(16 * b, 16 * b + 16):
                if below < 0:
                    s, e = start[first + j], end[first + j]
                    all_from, all_to = max(all_from, s), min(all_to, e)
                    any_from, any_to = min(any_from, s), max(any_to, e)
                else:
                    all_from, all_to = max(all_from, sight[0, below + j]), min(all_to, sight[1, below + j])
                    any_from, any_to = min(any_from, sight[2, below + j]), max(any_to, sight[3, below + j])
            sight[0, at + b], sight[1, at + b] = all_from, all_to
            sight[2, at + b], sight[3, at + b] = any_from, any_to
        below = at
        at += blocks
        blocks //= 16


@kernel
def blocks(
    event_from: Int64,
    wanted: Flags,
    value: Any,
    whole: Int64,
    start: Int64,
    end: Int64,
    seen_all: bool,
    spread: bool,
) -> tuple[Any, Any, Any, Any]:
    """Fold the events of some keys into blocks.

    Args:
        event_from: Where each key's events start, (n_keys + 1,).
        wanted: Which keys, bool (n_keys,).
        value: The column, float64 (n_events,).
        whole: The same as integers, or empty.
        start: First evaluation time at which an event is seen, (n_events,); not looked at where all are.
        end: First evaluation time at which it no longer is, (n_events,); likewise.
        seen_all: All events are seen.
        spread: Whether squared deviations are wanted.

    Returns:
        The blocks' numbers, float64 (3, n_blocks), and places, int64 (5, n_blocks); from when to when all of their
        events, and any of them, are seen, int64 (4, n_blocks), or no blocks where all are; and where each key's blocks
        start, level by level, int64 (n_keys,).
    """
    block_from = np.zeros(len(wanted), np.int64)
    n = 0
    for key in range(len(wanted)):
        block_from[key] = n
        size = (event_from[key + 1] - event_from[key]) // 16 if wanted[key] else 0
        while size > 0:
            n += size
            size //= 16
    numbers, places = np.zeros((3, n)), np.zeros((5, n), np.int64)
    sight = np.zeros((4, 0 if seen_all else n), np.int64)
    for key in range(len(wanted)):
        if not wanted[key]:
            continue
        first, here = event_from[key], block_from[key]
        below, size = -1, (event_from[key + 1] - first) // 16
        if not seen_all:
            _sights(start, end, first, event_from[key + 1] - first, here, sight)
        while size > 0:
            for c in range(size):
                if below < 0:
                    state = all_of(value, whole, spread, first + 16 * c, first + 16 * c + 16)
                else:
                    state = kept(numbers, places, below + 16 * c)
                    for j in range(below + 16 * c + 1, below + 16 * c + 16):
                        state = both(value, state, kept(numbers, places, j))
                _keep(numbers, places, here + c, state)
            below = here
            here += size
            size //= 16
    return numbers, places, sight, block_from
