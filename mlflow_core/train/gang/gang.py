"""Ranks that train together on a cluster, started again from the last checkpoint when a worker is lost.

A Dask task would not do: its retries know nothing of its peers. Here all ranks start together and end together; what a
program keeps of an attempt that was lost are its checkpoints, and where these are is its own business.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mlflow_core.errors import TrainError
from mlflow_core.spec.recovery import Recovery
from mlflow_core.telemetry.logs import get_logger
from mlflow_core.telemetry.progress import Progress, SilentProgress
from mlflow_core.train.gang.attempt import Done, GivenUp, attempt
from mlflow_core.train.gang.rank import CHECKPOINT, UNKEPT, Disrupted, Rank, Told
from mlflow_core.train.gang.rendezvous import Rendezvous
from mlflow_core.train.gang.roll import Roll
from mlflow_core.train.gang.seats import Member, Seat, check_cluster, seats, usable

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["CHECKPOINT", "Disrupted", "GangResult", "Lost", "Rank", "Rendezvous", "Told", "run_gang"]

_log = get_logger(__name__)

_ASK_EVERY_S = 0.1

T = TypeVar("T")


@dataclass(frozen=True)
class Lost:
    """A worker that was lost while it trained.

    Args:
        worker: Its address.
        rank: Which rank ran there.
        seconds: From when its loss was noticed until all ranks of the next attempt ran.
    """

    worker: str
    rank: int
    seconds: float


@dataclass(frozen=True)
class GangResult(Generic[T]):
    """What came of it.

    Args:
        results: What the programs of the last attempt returned, in the ranks' order.
        attempts: How many attempts it took, at least 1.
        lost: The workers that were lost on the way.
    """

    results: tuple[T, ...]
    attempts: int
    lost: tuple[Lost, ...]


def run_gang(
    client: Client | None,
    program: Callable[[Rank], T],
    *,
    ranks: int,
    recovery: Recovery,
    rendezvous: Rendezvous | None = None,
    told: Callable[[Told], None] | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
    memory: int = 0,
) -> GangResult[T]:
    """Run a program as so many ranks, each on a worker of its own, until all have ended.

    A lost worker ends the attempt for all ranks. The next one has as many, if the cluster brings a worker within
    ``recovery.replace_within``; else, with ``recovery.shrink``, as many as there are workers. Whatever ends it, also
    Ctrl-C: no rank, task or rendezvous is left.

    Args:
        client: The cluster; None runs one rank in this process, with nothing of Dask.
        program: What each rank does; picklable. It goes on from its own last checkpoint, in whichever attempt.
        ranks: How many there are.
        recovery: What happens when a worker is lost.
        rendezvous: How the ranks find each other; opened anew for each attempt of two ranks or more.
        told: Called in this thread with what ranks tell; what it raises ends the gang.
        progress: Told of the waits for workers.
        threads: How many threads a rank in this process may use; None for all. On a cluster the seats say it.
        memory: How many bytes each rank must be able to take: it has a seat on no worker with a lower limit. 0 asks nothing.

    Returns:
        The results, and what was lost on the way.

    Raises:
        TrainError: There are too few workers, a module cannot be imported on a worker, a rank failed, more workers
            were lost than ``recovery`` allows, or the cluster went away.
        MlcoreError: What else of ours a rank raised.

    Example:
        >>> run_gang(None, lambda rank: rank.index + 1, ranks=1, recovery=Recovery()).results
        (1,)
    """
    told = _with_warnings(told or _nobody)
    if client is None:
        return GangResult((program(_alone(ranks, told, threads)),), 1, ())
    progress = progress or SilentProgress()
    return _Gang(client, program, ranks, recovery, rendezvous, told, progress, memory).run()


def _nobody(told: Told) -> None:
    _log.debug("rank %d tells %s: %s", told.rank, told.name, told.facts)


def _with_warnings(told: Callable[[Told], None]) -> Callable[[Told], None]:
    """Say in the log what a trainer need not know."""

    def heard(one: Told) -> None:
        if one.name == UNKEPT:
            _log.warning("training goes on without a new checkpoint: %s", one.facts["why"])
        told(one)

    return heard


def _alone(ranks: int, told: Callable[[Told], None], threads: int | None) -> Rank:
    check_cluster(None, ranks)
    return Rank(
        index=0,
        count=1,
        threads=threads or len(os.sched_getaffinity(0)),
        attempt=0,
        rendezvous={},
        tell=lambda name, facts: told(Told(name, facts, 0, 0)),
        stopped=lambda: False,
    )


class _Gang(Generic[T]):
    def __init__(
        self,
        client: Client,
        program: Callable[[Rank], T],
        ranks: int,
        recovery: Recovery,
        rendezvous: Rendezvous | None,
        told: Callable[[Told], None],
        progress: Progress,
        memory: int,
    ) -> None:
        self._client, self._program, self._ranks, self._recovery = client, program, ranks, recovery
        self._rendezvous, self._told, self._progress = rendezvous, told, progress
        self._memory = memory
        self._lost: list[Lost] = []
        self._missed: list[tuple[int, str, float]] = []
        self._unusable: set[str] = set()
        self._checkpoint: Any = None

    def run(self) -> GangResult[T]:
        chosen, spent = self._first_seats(), 0
        for number in itertools.count():
            end = attempt(
                self._client,
                self._program,
                chosen,
                number,
                rendezvous=self._rendezvous,
                told=self._told,
                began=self._began,
            )
            if isinstance(end, Done):
                return GangResult(end.results, number + 1, tuple(self._lost))
            self._checkpoint = self._checkpoint if end.checkpoint is None else end.checkpoint
            now = time.monotonic()
            self._missed += [(rank, worker, now) for rank, worker in end.lost]
            self._unusable |= set(end.hanging)
            spent += max(1, len(end.lost))
            if spent > self._recovery.restarts:
                raise self._over(end, f"{spent} of {self._recovery.restarts} losses that recovery allows")
            chosen = self._seats_again(end, len(chosen))
        raise AssertionError("attempts are counted without end")

    def _began(self) -> None:
        now = time.monotonic()
        self._lost += [Lost(worker, rank, now - since) for rank, worker, since in self._missed]
        self._missed.clear()

    def _first_seats(self) -> tuple[Seat, ...]:
        """Wait for workers that are about to come; where none is, too few are too few at once."""
        until = time.monotonic() + self._recovery.replace_within / 1e6
        with self._progress.stage("waiting for workers"):
            while True:
                present = _answered(self._client)
                expected = max(len(present), len(getattr(self._client.cluster, "plan", ())))
                enough = len(usable(present, memory=self._memory)) >= self._ranks
                if enough or expected < self._ranks or time.monotonic() >= until:
                    return seats(present, self._ranks, memory=self._memory)
                time.sleep(_ASK_EVERY_S)

    def _seats(self, ranks: int) -> tuple[Seat, ...]:
        return seats(_answered(self._client), ranks, without=self._unusable, memory=self._memory)

    def _seats_again(self, end: GivenUp, before: int) -> tuple[Seat, ...]:
        """Wait until as many workers are there as before, then for no more; take all that were asked for first."""
        within = self._recovery.replace_within / 1e6
        _log.warning("%s; waiting up to %g s for %d workers", _what(end), within, before)
        until = time.monotonic() + within
        with self._progress.stage("waiting for a worker in place of a lost one"):
            while True:
                present = _answered(self._client)
                able = len(usable(present, without=self._unusable, memory=self._memory))
                if able >= before or time.monotonic() >= until:
                    break
                time.sleep(_ASK_EVERY_S)
        if able >= before or (able and self._recovery.shrink):
            _log.warning("training goes on with %d ranks", min(able, self._ranks))
            return self._seats(min(able, self._ranks))
        raise self._over(end, f"no worker came in its place within {self._recovery.replace_within}")

    def _over(self, end: GivenUp, why: str) -> TrainError:
        kept = (
            "no checkpoint has been told of"
            if self._checkpoint is None
            else f"the last checkpoint is at {self._checkpoint}"
        )
        return TrainError(
            f"{_what(end)}: {why}; {kept}",
            hint="Run it again with the same checkpoints: it goes on from the last one. "
            "If workers were killed for memory, give them more of it or use more of them.",
        )


def _what(end: GivenUp) -> str:
    if not end.lost:
        return f"the ranks lost each other ({end.reason})"
    return ", ".join(
        f"the worker {worker} of rank {rank} was lost while it trained" for rank, worker in end.lost
    )


def _answered(client: Client) -> Mapping[str, Member]:
    """The workers, once the scheduler answers."""
    roll = Roll(client)
    while (present := roll.call()) is None:
        time.sleep(_ASK_EVERY_S)
    return present
