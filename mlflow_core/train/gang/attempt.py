"""One attempt of a gang: ranks started together, watched together, and ended together, whatever happens.

A pinned task whose worker is gone waits for ever, so membership is watched beside the futures. An attempt ends with
all results, with the workers that were lost, or with an error that starting again would not mend; in each case no
rank runs on, no task is left on the scheduler, and the rendezvous is closed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_core.engine.cluster.project_code import share_modules
from mlflow_core.engine.cluster.tasks import patience
from mlflow_core.errors import MachineError, MlcoreError
from mlflow_core.telemetry.logs import get_logger
from mlflow_core.train.gang.hearing import Hearing
from mlflow_core.train.gang.on_worker import Failed, Started, get_ready, run_rank
from mlflow_core.train.gang.rank import Disrupted, Rank, Told
from mlflow_core.train.gang.rendezvous import Rendezvous
from mlflow_core.train.gang.roll import Roll, gone_away
from mlflow_core.train.gang.seats import Member, Seat, members, reachable_host

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Done", "GivenUp", "attempt"]

_log = get_logger(__name__)

_LOOK_EVERY_S = 0.25
_REASON_WITHIN_S = (
    3.0  # a rank fails when its peer's worker dies, a moment before the scheduler knows of that
)
_BLAME_WITHIN_S = 1.0  # the same, where a rank says that it is the data or the settings
_PARTING_S = 1.5
_GRACE_S = 5.0


@dataclass(frozen=True)
class Done:
    """All ranks have ended well.

    Args:
        results: What the programs returned, in the ranks' order.
    """

    results: tuple[Any, ...]


@dataclass(frozen=True)
class GivenUp:
    """The attempt was given up.

    Args:
        lost: Rank and address of each worker that was lost; empty where all are still there.
        reason: What happened, where no worker was lost.
        hanging: Addresses where a rank could not be ended; no rank can run there.
        checkpoint: Where the last checkpoint is that its ranks told of; None where they told of none.
    """

    lost: tuple[tuple[int, str], ...]
    reason: str = ""
    hanging: tuple[str, ...] = ()
    checkpoint: Any = None


def attempt(
    client: Client,
    program: Callable[[Rank], Any],
    chosen: Sequence[Seat],
    number: int,
    *,
    rendezvous: Rendezvous | None,
    told: Callable[[Told], None],
    began: Callable[[], None],
) -> Done | GivenUp:
    """Run one rank a seat, until all have ended or it is clear that they never will.

    Args:
        client: The cluster.
        program: What each rank does.
        chosen: The ranks' seats.
        number: How many attempts there were before.
        rendezvous: How the ranks find each other.
        told: Called in this thread with what ranks tell.
        began: Called in this thread once all ranks run.

    Returns:
        The results, or which workers were lost.

    Raises:
        TrainError: A rank failed for a reason that another attempt would meet again, or the cluster went away.
        MlcoreError: What else of ours a rank raised.
    """
    ranks = _Ranks(client, chosen, number, told, began)
    try:
        results = ranks.run(program, rendezvous)
    except _Broken as broken:
        return ranks.given_up(broken.lost, str(broken))
    except Disrupted as error:
        return ranks.given_up((), str(error))
    except BaseException:
        ranks.end()
        raise
    ranks.end()
    return Done(results)


class _Broken(Exception):
    """Ranks are lost, or cannot reach each other."""

    def __init__(self, reason: str, lost: Sequence[tuple[int, str]] = ()) -> None:
        super().__init__(reason)
        self.lost = tuple(lost)


class _Ranks:
    def __init__(
        self,
        client: Client,
        chosen: Sequence[Seat],
        number: int,
        told: Callable[[Told], None],
        began: Callable[[], None],
    ) -> None:
        self._client, self._chosen, self._number = client, chosen, number
        self._hearing = Hearing(client, len(chosen), number, told, began)
        self._futures: list[Future[Any]] = []
        self._met = ExitStack()
        self._roll, self._moved = Roll(client), time.monotonic()
        self._stuck: set[str] = set()

    def run(self, program: Callable[[Rank], Any], rendezvous: Rendezvous | None) -> tuple[Any, ...]:
        processes = self._get_ready(program, rendezvous)
        count = len(self._chosen)
        where: Mapping[str, Any] = {}
        if rendezvous is not None and count > 1:
            where = self._met.enter_context(rendezvous.open(count, reachable_host(self._client)))
        calls = [
            (program, Started(index, count, seat.threads, self._number, where, self._hearing.topic, process))
            for index, (seat, process) in enumerate(zip(self._chosen, processes, strict=True))
        ]
        results = self._collect("rank", run_rank, calls)
        self._hearing.listen_to_the_end()
        return results

    def given_up(self, lost: tuple[tuple[int, str], ...], reason: str) -> GivenUp:
        """End it, and say what there is to say: the ranks are heard until they have ended."""
        hanging = self.end()
        return GivenUp(lost, reason, hanging, self._hearing.checkpoint)

    def end(self) -> tuple[str, ...]:
        """Leave no rank, task or topic behind; return where a rank could not be ended."""
        hanging: tuple[str, ...] = ()
        running = any(future.status != "finished" for future in self._futures)
        try:
            if self._client.status == "running":
                self._client.cancel(self._futures)
                # XGBoost's ranks that end say so to its tracker, and wait for seconds if it is gone.
                running = running and bool(self._wait_for_ends(_PARTING_S)[1])
        finally:
            self._met.close()
        try:
            if self._client.status == "running":
                if running:
                    hanging = self._stop()
                members(
                    self._client
                )  # raises where the scheduler is silent: it would be waited for without end
                self._hearing.close()
        except OSError as error:
            _log.debug("the scheduler was lost meanwhile, and all with it: %s", error)
        return hanging

    def _get_ready(self, program: Callable[[Rank], Any], rendezvous: Rendezvous | None) -> list[str]:
        """Import what is needed, which takes seconds on a cold worker: no rank then waits for another's imports."""
        own = getattr(program, "__module__", "__main__")
        modules = (*(() if own == "__main__" else (own,)), *(rendezvous.modules if rendezvous else ()))
        share_modules(self._client, modules)
        found = self._collect("ready", get_ready, [(modules,)] * len(self._chosen))
        for seat, ready in zip(self._chosen, found, strict=True):
            if ready.failed is not None:
                raise MachineError(
                    f'the module "{ready.failed[0]}" cannot be imported on the worker {seat.address}: {ready.failed[1]}',
                    hint="Install it, with what it imports, where the workers run, or mend it.",
                )
        return [ready.process for ready in found]

    def _collect(
        self, name: str, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]
    ) -> tuple[Any, ...]:
        """Call a function on each seat and return the results, hearing and watching meanwhile."""
        self._futures = [
            self._client.submit(
                function,
                *call,
                key=f"mlcore-{name}-{index}-{uuid.uuid4().hex}",
                workers=[seat.address],
                allow_other_workers=False,
                retries=0,
                priority=10,
            )
            for index, (seat, call) in enumerate(zip(self._chosen, calls, strict=True))
        ]
        self._moved = time.monotonic()
        results: dict[int, Any] = {}
        failed: dict[int, Failed] = {}
        looked, failed_since = time.monotonic(), 0.0
        while True:
            self._fetch(results, failed)
            if len(results) == len(self._futures):
                return tuple(results[rank] for rank in range(len(results)))
            now = time.monotonic()
            failed_since = (failed_since or now) if failed else 0.0
            if failed or now - looked >= _LOOK_EVERY_S:
                self._look([rank for rank in range(len(self._futures)) if rank not in {*results, *failed}])
                looked = now
            if failed:
                self._judge(results, failed, now - failed_since)
            self._hearing.listen(0.01 if failed or name == "ready" or self._hearing.ended else _LOOK_EVERY_S)

    def _fetch(self, results: dict[int, Any], failed: dict[int, Failed]) -> None:
        """Take results as they come: Dask would wait for ever for one whose worker was lost since."""
        for rank, future in enumerate(self._futures):
            if rank in results or rank in failed or future.status == "pending":
                continue
            try:
                result = future.result(timeout=_GRACE_S)
            except CancelledError:
                failed[rank] = Failed(gone_away(), "")
            except OSError as error:
                _log.debug("there is no result of rank %d: %s", rank, error)
            except Exception as error:  # what kept a worker from starting it, on its way to the caller
                failed[rank] = Failed(error, "")
            else:
                (failed if isinstance(result, Failed) else results)[rank] = result

    def _look(self, waiting: Sequence[int]) -> None:
        """Raise if a worker that is waited for is no member any more, or the scheduler itself is lost."""
        present = self._roll.call()
        if present is None:
            return
        lost = [(rank, at) for rank in waiting if (at := self._chosen[rank].address) not in present]
        if lost:
            raise _Broken("", lost)
        self._check_begun(present, [rank for rank in waiting if rank not in self._hearing.began])

    def _check_begun(self, present: Mapping[str, Member], waiting: Sequence[int]) -> None:
        """Raise if a worker that has nothing to do does not begin, or one begins long after its peers."""
        idle = [rank for rank in waiting if not present[self._chosen[rank].address].busy]
        if not (waiting if self._hearing.began else idle):
            self._moved = time.monotonic()
        elif time.monotonic() - self._moved > patience():
            self._stuck = {self._chosen[rank].address for rank in idle}
            seats = ", ".join(f"rank {rank} on the worker {self._chosen[rank].address}" for rank in waiting)
            raise _Broken(f"{patience():g} s passed and there was no beginning of {seats}")

    def _judge(self, results: Mapping[int, Any], failed: Mapping[int, Failed], since: float) -> None:
        """Say why ranks failed, once it is known: a peer's worker that dies is the reason before what they say."""
        ours = [one.error for one in failed.values() if isinstance(one.error, MlcoreError)]
        all_have_ended = len(results) + len(failed) == len(self._futures)
        if not all_have_ended and since < (_BLAME_WITHIN_S if ours else _REASON_WITHIN_S):
            return
        if ours:
            raise ours[0]
        for rank, one in failed.items():
            if not isinstance(one.error, Disrupted):
                raise one.told(f"rank {rank} on the worker {self._chosen[rank].address}") from one.error
        rank, one = next(iter(failed.items()))
        raise _Broken(f"rank {rank} on the worker {self._chosen[rank].address}: {one.error}")

    def _stop(self) -> tuple[str, ...]:
        """Where a rank does not stop, have its worker's process ended by the nanny; return where there is none."""
        present, running = self._wait_for_ends(_GRACE_S)
        replaceable = [at for at in sorted(running) if present[at].replaceable]
        if replaceable:
            _log.warning("ranks on %s did not stop: the workers are started anew", ", ".join(replaceable))
            scheduler: Any = self._client.scheduler
            self._client.sync(
                scheduler.restart_workers,
                workers=replaceable,
                timeout=4 * _GRACE_S,
                wait_for_workers=False,
                on_error="return",
                stimulus_id=self._hearing.topic,
            )
        return tuple(sorted(running - set(replaceable)))

    def _wait_for_ends(self, seconds: float) -> tuple[Mapping[str, Member], set[str]]:
        """Wait for ranks that were told to stop; return the workers, and those where one still runs."""
        now = time.monotonic()
        until, settled = now + seconds, now + _LOOK_EVERY_S  # one that was about to begin has begun by then
        while True:
            present = self._members_left()
            going = {self._chosen[rank].address for rank in self._hearing.began - self._hearing.ended}
            running = (going | self._stuck) & set(present)
            now = time.monotonic()
            if (not running and now >= settled) or now >= until:
                return present, running
            self._hearing.listen_for_ends(0.05)

    def _members_left(self) -> Mapping[str, Member]:
        try:
            return members(self._client)
        except OSError as error:
            _log.debug("the scheduler does not answer: %s", error)
            return {}
