"""The process that starts pipelines when they are due: each once, by one scheduler, in a child process of its own.

What is due stands in the metadata database, and whoever takes it holds a lease there for as long as the pipeline runs, so
that any number of schedulers may be up. What came due while none was up, or while the pipeline was still running, is made
up for by one run. A scheduler that is asked to end interrupts what it has started and leaves it due.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import orjson

from mlflow_core.config.clock import Clock
from mlflow_core.config.times import format_time
from mlflow_core.errors import MetadataError, UnknownNameError, WorkflowError
from mlflow_core.metadata import MetadataStore, Schedule
from mlflow_core.telemetry.logs import get_logger
from mlflow_core.workflow.schedule.child import Child
from mlflow_core.workflow.schedule.times import count_between, next_time

__all__ = ["Ended", "Scheduler"]

LEASE_S: Final = 60.0
"""Seconds without a sign of life after which another scheduler takes over what one had started."""

_LOOK_S = 1.0
_LOOK_AT_END_S = 0.1
_ENDS_WITHIN_S = 30.0
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of one start.

    Attributes:
        schedule: The schedule.
        pipeline: The pipeline.
        due_us: When it was due; None where a person started it.
        missed: How many further times came due before it was started, for which nothing else is done.
        run: The run, if one was recorded.
        status: The exit status of its process; negative for a signal.
        error: What went wrong, one sentence.
    """

    schedule: str
    pipeline: str
    due_us: int | None
    missed: int
    run: str | None
    status: int | None
    error: str | None


@dataclass
class _Started:
    """One start while it runs."""

    schedule: Schedule
    child: Child
    due_us: int | None
    missed: int
    started_us: int
    renewed: float
    stopping_since: float | None = None
    lost: bool = False


@dataclass
class Scheduler:
    """Starts what is due.

    Attributes:
        metadata: Where schedules are kept.
        clock: Says when something is due.
        start: Starts a pipeline in a child process.
        owner: Its name beside leases; unique for each process.
        say: Is told what happens, a line each.
        lease_s: How long a lease lasts that is not renewed.
        look_s: How often it looks, in seconds.
        ends_within_s: How long an interrupted pipeline may take to end before it is killed.
    """

    metadata: MetadataStore
    clock: Clock
    start: Callable[[str], Child]
    owner: str
    say: Callable[[str], None]
    lease_s: float = LEASE_S
    look_s: float = _LOOK_S
    ends_within_s: float = _ENDS_WITHIN_S
    _running: dict[str, _Started] = field(default_factory=dict, init=False)
    _ended: list[Ended] = field(default_factory=list, init=False)

    def run(self, stopped: threading.Event, *, once: bool = False) -> tuple[Ended, ...]:
        """Start what is due until told to end.

        Args:
            stopped: Ends it when set: what it has started is interrupted, and stays due.
            once: Only start what is due now, and wait for it.

        Returns:
            What came of each start, in the order in which they ended.
        """
        looked = False
        try:
            while not (once and looked) or self._running:
                if not stopped.is_set() and not (once and looked):
                    self._take_due()
                    looked = True
                self._step(stopped)
                if stopped.is_set() and not self._running:
                    break
                if stopped.is_set():
                    time.sleep(_LOOK_AT_END_S)
                elif self._running or not once:
                    stopped.wait(min(self.look_s, _LOOK_AT_END_S) if once else self.look_s)
        finally:
            self._kill_all()
        return tuple(self._ended)

    def run_now(self, name: str, stopped: threading.Event) -> Ended:
        """Start one schedule's pipeline now and wait for it; when it is due next stays as it is.

        Args:
            name: The schedule.
            stopped: Interrupts it when set.

        Raises:
            UnknownNameError: There is no such schedule.
            MetadataError: It is being started or running already.
            WorkflowError: It cannot be started.
        """
        schedule = self.metadata.claim_schedule(name, self.owner, self._lease_us)
        self._start(schedule, due_us=None, missed=0)
        try:
            while self._running:
                self._step(stopped)
                if self._running:
                    time.sleep(_LOOK_AT_END_S)
        finally:
            self._kill_all()
        (ended,) = self._ended
        if ended.status is None:
            raise WorkflowError(ended.error or "cannot be started", object=f'Schedule "{name}"')
        return ended

    @property
    def _lease_us(self) -> int:
        return int(self.lease_s * 1e6)

    def _take_due(self) -> None:
        now = self.clock.now_us()
        try:
            due = self.metadata.due_schedules(now, self.owner, self._lease_us)
        except MetadataError as error:
            self.say(f"cannot see what is due, and looks again: {error}")
            return
        for one in due:
            at = one.next_us if one.next_us is not None else now
            missed = count_between(one.cron, one.zone, at, now) if one.cron is not None else 0
            told = f"{one.name}: due {format_time(at)}"
            if missed:
                told += f"; it came due {missed} more times since, which this run makes up for"
            self.say(told)
            self._start(one, due_us=at, missed=missed)

    def _start(self, one: Schedule, *, due_us: int | None, missed: int) -> None:
        now = self.clock.now_us()
        try:
            child = self.start(one.pipeline)
        except OSError as error:
            self._finish(one, due_us, missed, None, None, f"cannot be started: {error}", now)
            return
        self._running[one.name] = _Started(one, child, due_us, missed, now, time.monotonic())

    def _step(self, stopped: threading.Event) -> None:
        """Renew, interrupt and collect what is running."""
        for name, one in list(self._running.items()):
            status = one.child.poll()
            if status is not None:
                del self._running[name]
                self._collect(one, status)
                continue
            if stopped.is_set():
                self._stop(one)
            self._renew(one)

    def _renew(self, one: _Started) -> None:
        now = time.monotonic()
        if one.lost or now - one.renewed < self.lease_s / 3:
            return
        try:
            self.metadata.claim_schedule(one.schedule.name, self.owner, self._lease_us)
            one.renewed = now
        except UnknownNameError:
            one.renewed = now  # it is declared no more; what was started goes on
        except MetadataError as error:
            if now - one.renewed > self.lease_s:
                self.say(f"{one.schedule.name}: interrupted, for its lease is lost: {error}")
                one.lost = True
        if one.lost:
            self._stop(one)

    def _stop(self, one: _Started) -> None:
        if one.stopping_since is None:
            one.stopping_since = time.monotonic()
            one.child.interrupt()
        elif time.monotonic() - one.stopping_since > self.ends_within_s:
            one.child.kill()

    def _collect(self, one: _Started, status: int) -> None:
        error = None if status == 0 else _what_was_said(one.child, status)
        if one.stopping_since is not None and status != 0:
            error = "interrupted, because its scheduler was ended"
        run = self._run_of(one)
        if one.lost:
            self._ended.append(_ended(one.schedule, one.due_us, one.missed, run, status, error))
            return
        interrupted = one.stopping_since is not None and status != 0
        kept = one.due_us if interrupted else None
        self._finish(one.schedule, one.due_us, one.missed, run, status, error, one.started_us, next_us=kept)

    def _finish(
        self,
        one: Schedule,
        due_us: int | None,
        missed: int,
        run: str | None,
        status: int | None,
        error: str | None,
        started_us: int,
        next_us: int | None = None,
    ) -> None:
        self._ended.append(_ended(one, due_us, missed, run, status, error))
        self.say(f"{one.name}: {error or 'done'}" + (f", run {run}" if run else ""))
        try:
            now = self.metadata.get_schedule(one.name)  # it may have been declared otherwise meanwhile
            if next_us is None:
                # When another line is due, was said as it was declared; nothing of it was missed before.
                as_it_is = due_us is None or (now.cron, now.zone) != (one.cron, one.zone)
                later = None if now.cron is None else next_time(now.cron, now.zone, started_us)
                next_us = now.next_us if as_it_is else later
            self.metadata.finish_schedule(one.name, self.owner, next_us=next_us, run_id=run, error=error)
        except UnknownNameError:
            self.say(f"{one.name}: is declared no more")
        except MetadataError as lost:
            _log.warning("what came of schedule %s could not be written down: %s", one.name, lost)

    def _run_of(self, one: _Started) -> str | None:
        """The run that a start made: the newest of its pipeline since then."""
        found = self.metadata.list_runs(pipeline=one.schedule.pipeline, limit=1)
        return found[0].id if found and found[0].created_us >= one.started_us else None

    def _kill_all(self) -> None:
        for one in self._running.values():
            one.child.kill()
        self._running.clear()


def _ended(
    one: Schedule, due_us: int | None, missed: int, run: str | None, status: int | None, error: str | None
) -> Ended:
    return Ended(one.name, one.pipeline, due_us, missed, run, status, error)


def _what_was_said(child: Child, status: int) -> str:
    """The message of the last line that a child printed: our commands end with one JSON line where they fail."""
    lines = child.output.read_text(errors="replace").strip().splitlines()
    last = lines[-1] if lines else ""
    try:
        document = orjson.loads(last)
        return str(document["error"]["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"ended with {how}" + (f": {last[:200]}" if last else "")
