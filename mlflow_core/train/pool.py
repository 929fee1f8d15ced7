"""Trainings that have nothing to do with each other, side by side on the workers of a cluster, or here one by one.

Each is a picklable program. On a cluster it is pinned to a worker, told from there through Dask's events, and started
again elsewhere when that worker is lost; a pinned task whose worker is gone would wait for ever, so membership is
watched beside the futures. Ranks that train one model together are not this, but a gang.
"""

from __future__ import annotations

import importlib
import json
import queue
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from mlflow_core.engine.cluster.lost import told_if_lost
from mlflow_core.engine.cluster.project_code import share_modules
from mlflow_core.errors import TrainError
from mlflow_core.telemetry.logs import get_logger
from mlflow_core.train.gang.hearing import take_off
from mlflow_core.train.gang.on_worker import is_stopped
from mlflow_core.train.gang.roll import Roll, gone_away
from mlflow_core.train.gang.seats import Member, members

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["ClusterPool", "Ended", "LocalPool", "Pool", "Program", "Slot", "Stopped", "open_pool"]

_log = get_logger(__name__)

_LOOK_EVERY_S = 0.25
_FETCH_WITHIN_S = 20.0
_WORKERS_WITHIN_S = 60.0
_ATTEMPTS = 3


class Stopped(Exception):
    """Raised by a program that was told to stop."""


@dataclass(frozen=True)
class Slot:
    """What a program is told; lives only where it runs.

    Args:
        threads: How many threads it may use; None for all.
        tell: Tells the caller JSON-able facts, without waiting.
        stopped: Whether the caller wants it no more, or has gone: ask now and then, and raise ``Stopped``.
    """

    threads: int | None
    tell: Callable[[Any], None]
    stopped: Callable[[], bool]


Program = Callable[[Slot], Any]
Told = Callable[[int, Any], None]


@dataclass(frozen=True)
class Ended:
    """A program that has ended.

    Args:
        key: Which one.
        result: What it returned.
        error: What it raised, a ``TrainError``; then there is no result.
        stopped: Whether the caller had stopped it.
        worker: Where it ran.
        attempts: How often it was started.
    """

    key: int
    result: Any = None
    error: TrainError | None = None
    stopped: bool = False
    worker: str = "here"
    attempts: int = 1


class Pool(Protocol):
    """Where programs run. Everything is called from one thread, which is also told what programs tell."""

    @property
    def free(self) -> bool:
        """Whether another program can be started now."""

    @property
    def running(self) -> int:
        """How many were started and have not ended."""

    def start(self, key: int, program: Program) -> None:
        """Start a program under a key of its own."""

    def stop(self, key: int) -> None:
        """Want a program no more; it ends as stopped. May be called while being told."""

    def wait(self, seconds: float) -> Ended | None:
        """The next program that has ended, within so many seconds.

        Raises:
            TrainError: The cluster has had no workers for a minute.
            ClusterLost: The cluster went away.
            Exception: What a program raised that is not a ``TrainError``.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_pool(
    client: Client | None,
    *,
    parallel: int | None,
    told: Told,
    threads: int | None = None,
    modules: Iterable[str] = (),
) -> Pool:
    """A pool on a cluster, or in this process.

    Args:
        client: The cluster; None runs one program after the other here.
        parallel: How many at the same time, at most as many as the workers have threads; by default one a worker.
        told: Called in the caller's thread with a program's key and the facts it tells.
        threads: How many threads a program in this process may use; None for all.
        modules: The project's own modules that programs import, which workers elsewhere do not know.
    """
    return LocalPool(told, threads) if client is None else ClusterPool(client, parallel, told, tuple(modules))


class LocalPool:
    """One program after the other in this process."""

    def __init__(self, told: Told, threads: int | None = None) -> None:
        self._told, self._threads = told, threads
        self._next: tuple[int, Program] | None = None
        self._stopped: set[int] = set()

    @property
    def free(self) -> bool:
        """Whether nothing is waiting to run."""
        return self._next is None

    @property
    def running(self) -> int:
        """1 while a program waits to run."""
        return 0 if self._next is None else 1

    def start(self, key: int, program: Program) -> None:
        """Keep a program for ``wait``, which runs it."""
        self._next = (key, program)

    def stop(self, key: int) -> None:
        """Let the program end when it asks."""
        self._stopped.add(key)

    def wait(self, seconds: float) -> Ended | None:  # noqa: ARG002 it takes as long as it takes
        """Run the program that was started."""
        if self._next is None:
            return None
        (key, program), self._next = self._next, None
        slot = Slot(self._threads, lambda facts: self._told(key, facts), lambda: key in self._stopped)
        try:
            return Ended(key, program(slot))
        except Stopped:
            return Ended(key, stopped=True)
        except TrainError as error:
            return Ended(key, error=error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._next = None


@dataclass
class _Running:
    program: Program
    attempts: int = 0
    worker: str = ""
    future: Future[Any] | None = None


@dataclass
class ClusterPool:
    """Programs pinned to workers, spread evenly."""

    client: Client
    parallel: int | None
    told: Told
    modules: tuple[str, ...] = ()
    _topic: str = field(default_factory=lambda: f"mlcore-pool-{uuid.uuid4().hex}")
    _heard: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    _running: dict[int, _Running] = field(default_factory=dict)
    _ended: list[Ended] = field(default_factory=list)
    _present: Mapping[str, Member] = field(default_factory=dict)
    _usable: Mapping[str, Member] = field(default_factory=dict)
    _looked: float = 0.0
    _seen: float = field(default_factory=time.monotonic)

    @property
    def free(self) -> bool:
        """Whether fewer programs run than may."""
        self._look()
        return len(self._running) < self._limit()

    @property
    def running(self) -> int:
        """How many have not ended, or not been fetched by ``wait``."""
        return len(self._running) + len(self._ended)

    def start(self, key: int, program: Program) -> None:
        """Start a program on the worker that has the fewest."""
        self._running[key] = _Running(program)
        self._place()

    def stop(self, key: int) -> None:
        """Cancel the program's task; the program sees that on its worker and ends there."""
        one = self._running.pop(key, None)
        if one is None:
            return
        if one.future is not None:
            self.client.cancel([one.future])
        self._ended.append(Ended(key, stopped=True, worker=one.worker, attempts=one.attempts))

    def wait(self, seconds: float) -> Ended | None:
        """See ``Pool.wait``."""
        until = time.monotonic() + seconds
        while True:
            self._hear(0.0 if self._ended else min(0.05, max(0.0, until - time.monotonic())))
            if self._ended:
                return self._ended.pop(0)
            self._look()
            self._place()
            for key, one in list(self._running.items()):
                if key not in self._running:  # what another told has stopped it just now
                    continue
                with told_if_lost(self.client, gone_away()):
                    self._settle(key, one)
            if not self._ended and time.monotonic() >= until:
                return None

    def __post_init__(self) -> None:
        self._roll = Roll(self.client)

    def __enter__(self) -> Self:
        for name in self.modules:
            try:
                importlib.import_module(name)
            except ImportError as error:  # the programs say so, each with its own words
                _log.debug("%s cannot be imported here: %s", name, error)
        share_modules(self.client, self.modules)
        self.client.subscribe_topic(self._topic, lambda event: self._heard.put(event[1]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.client.status != "running":
            return
        self.client.cancel([one.future for one in self._running.values() if one.future is not None])
        try:
            members(self.client)  # raises where the scheduler is silent: it would be waited for without end
            take_off(self.client, self._topic)
        except OSError as lost:
            _log.debug("the scheduler was lost meanwhile, and all with it: %s", lost)

    def _limit(self) -> int:
        threads = sum(one.threads for one in self._usable.values())
        return min(self.parallel or len(self._usable), threads)

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < _LOOK_EVERY_S:
            return
        self._looked = now
        present = self._roll.call()
        if present is None:
            return
        # One that is out of memory for the moment is given nothing more, but goes on with what it has.
        self._present, self._usable = present, {at: one for at, one in present.items() if one.takes_tasks}
        if self._usable or any(one.busy for one in present.values()):
            self._seen = time.monotonic()
        elif now - self._seen > _WORKERS_WITHIN_S:
            raise TrainError(
                f"the cluster has had no workers that take tasks for {_WORKERS_WITHIN_S:.0f} seconds",
                hint="Start workers, and run the same again: it goes on.",
            )

    def _place(self) -> None:
        """Give each program without a worker one that has room; where others were lost it waits, and shares none with more."""
        at_once = -(-self._limit() // max(1, len(self._usable)))
        for key, one in self._running.items():
            if one.future is not None or not self._usable:
                continue
            loads = dict.fromkeys(self._usable, 0)
            for other in self._running.values():
                if other.worker in loads and other.future is not None:
                    loads[other.worker] += 1
            if min(loads.values()) >= at_once:
                return
            one.worker = min(loads, key=lambda at: (loads[at], self._usable[at].name))
            one.attempts += 1
            one.future = self.client.submit(
                _run_on_worker,
                one.program,
                key,
                self._topic,
                max(1, self._usable[one.worker].threads // at_once),
                key=f"mlcore-pool-{key}-{uuid.uuid4().hex}",
                workers=[one.worker],
                allow_other_workers=False,
                retries=0,
            )

    def _settle(self, key: int, one: _Running) -> None:
        if (future := one.future) is None:
            return
        gone = one.worker not in self._present
        if future.status == "pending" and not gone:
            return
        if future.status in ("finished", "cancelled"):  # nobody here cancels what it waits for
            try:
                kind, said = future.result(timeout=_FETCH_WITHIN_S)
            except OSError as lost:
                _log.debug("the result of %d is not there: %s", key, lost)
                self._again(key, one)
                return
            self._hear(0.0)
            if kind == "stopped" and key in self._running:  # its worker is closing, nobody here stopped it
                self._again(key, one)
            elif key in self._running:  # what was heard last may have stopped it
                del self._running[key]
                result, error = (said, None) if kind == "result" else (None, said)
                self._ended.append(Ended(key, result, error, worker=one.worker, attempts=one.attempts))
            return
        if future.status == "error" and not gone:
            try:
                failure = future.exception(timeout=_FETCH_WITHIN_S)
            except TimeoutError:
                return  # of a scheduler that is slow; it is asked again
            if failure is not None and type(failure).__name__ != "KilledWorker":
                raise failure
        self._again(key, one)

    def _again(self, key: int, one: _Running) -> None:
        """Its worker was lost: start it once more, unless it seems to be what kills workers."""
        if self.client.status != "running":
            raise gone_away()
        _log.info("the worker %s of program %d was lost", one.worker, key)
        if one.future is not None:
            self.client.cancel([one.future])
        one.future = None
        if one.attempts < _ATTEMPTS:
            return
        del self._running[key]
        error = TrainError(
            f"its worker was lost {one.attempts} times",
            hint="If they were killed for memory, give workers more of it.",
        )
        self._ended.append(Ended(key, error=error, worker=one.worker, attempts=one.attempts))

    def _hear(self, seconds: float) -> None:
        try:
            text = self._heard.get(timeout=seconds) if seconds else self._heard.get_nowait()
            while True:
                key, facts = json.loads(text)
                if key in self._running:
                    self.told(key, facts)
                text = self._heard.get_nowait()
        except queue.Empty:
            return


def _run_on_worker(program: Program, key: int, topic: str, threads: int) -> tuple[str, Any]:
    from distributed import get_worker

    worker = get_worker()
    task = worker.get_current_task()

    def tell(facts: Any) -> None:
        worker.log_event(topic, json.dumps([key, facts]))

    try:
        return "result", program(Slot(threads, tell, lambda: is_stopped(worker, task)))
    except Stopped:
        return "stopped", None
    except TrainError as error:
        return "error", error
