"""What a rank's program is told, and what may end it: all that a trainer has to know of the gang.

A program is a picklable callable that takes a ``Rank``. It runs in this process or in a Dask worker's thread pool,
alone or with others; the code is the same. It takes its share of the work from ``index`` and ``count``, so that a gang
that goes on with fewer ranks shares the work anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["CHECKPOINT", "UNKEPT", "Disrupted", "Rank", "Told"]

CHECKPOINT = "checkpoint"
"""The name under which a program tells of a checkpoint that it has written or gone on from, with the fact ``at``."""
UNKEPT = "unkept"
"""The name under which it tells of one that could not be written, and ``why``; the training goes on."""


@dataclass(frozen=True)
class Rank:
    """One of the programs that train together. It lives on its worker only.

    Args:
        index: Which one it is, from 0.
        count: How many there are.
        threads: How many threads it may use.
        attempt: How often the gang has started before: 0 is the first time.
        rendezvous: How the ranks find each other, as the rendezvous says; empty for a rank alone.
        tell: Tells the caller a name and JSON-able facts, from any thread, without waiting. Facts of one rank arrive
            in order, and all of them before the gang's result. Checkpoints are told as ``CHECKPOINT`` with ``at``,
            so that an error can say where the training can go on.
        stopped: Whether this attempt was given up, or the caller has gone: a program asks before each step and
            returns, or raises, at once; what it returns then is not looked at.
    """

    index: int
    count: int
    threads: int
    attempt: int
    rendezvous: Mapping[str, Any]
    tell: Callable[[str, Mapping[str, Any]], None]
    stopped: Callable[[], bool]

    def tell_checkpoint(self, at: int, failure: str | None) -> None:
        """Tell that a checkpoint was written, or why it was not."""
        if failure is None:
            self.tell(CHECKPOINT, {"at": at})
        else:
            self.tell(UNKEPT, {"why": failure})


@dataclass(frozen=True)
class Told:
    """What a rank has told.

    Args:
        name: What it is about.
        facts: JSON-able values.
        rank: Who told it.
        attempt: In which attempt; after a restart, what came after the checkpoint is told again.
    """

    name: str
    facts: Mapping[str, Any]
    rank: int
    attempt: int


class Disrupted(Exception):
    """Raised by a program whose peers cannot be reached: the attempt is given up, and made again.

    It counts as a lost worker does, also where all workers are still there.
    """
