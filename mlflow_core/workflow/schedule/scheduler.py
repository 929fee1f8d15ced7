"""The process that starts what is due: pipelines and materialisations, each once, by one scheduler, in child processes.

What is due stands in the metadata database, and whoever takes it holds a lease there for as long as it runs, so that any
number of schedulers may be up. What came due while none was up, or while the pipeline was still running, is made up for by
one run. What waits for a condition is due to be looked at, and started where the look says so, under one lease. A
scheduler that is asked to end interrupts what it has started and leaves it due.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mlflow_core.config.clock import Clock
from mlflow_core.config.times import format_time
from mlflow_core.errors import MetadataError, UnknownNameError, WorkflowError
from mlflow_core.metadata import MetadataStore, Schedule
from mlflow_core.telemetry.logs import get_logger
from mlflow_core.workflow.schedule.child import Child
from mlflow_core.workflow.schedule.looking import LOOK_WITHIN_S, Look, look_at
from mlflow_core.workflow.schedule.sight import Found, Training
from mlflow_core.workflow.schedule.started import Ended, Looking, Outcome, Started, due_again, outcome_of
from mlflow_core.workflow.schedule.times import count_between
from mlflow_core.workflow.schedule.views import ViewDue, after_view, view_due, view_of
from mlflow_core.workflow.schedule.watching import Verdict, after_failed_look, after_look, is_watch

__all__ = ["Ended", "Scheduler"]

LEASE_S: Final = 60.0
"""Seconds without a sign of life after which another scheduler takes over what one had started."""

_LOOK_S = 1.0
_LOOK_AT_END_S = 0.1
_ENDS_WITHIN_S = 30.0
_log = get_logger(__name__)


def _no_views(views: Sequence[str]) -> Child:
    raise OSError(f"this scheduler materialises nothing, and {', '.join(views)} is due")


def _no_rows(told: Found) -> Found:
    raise WorkflowError(
        "this scheduler reads no rows, which it takes to see a drift", object=f'Pipeline "{told["of"]}"'
    )


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
        look_s: How often it looks at what is due, in seconds.
        ends_within_s: How long an interrupted pipeline may take to end before it is killed.
        materialise: Starts the materialisation of views in one child process.
        base: Folder of the feature repository, where relative paths of watched sources start.
        look_within_s: How long looking at a condition may take that reads no rows.
        measure: Measures a drift in another process; called in a thread that waits for it.
    """

    metadata: MetadataStore
    clock: Clock
    start: Callable[[str], Child]
    owner: str
    say: Callable[[str], None]
    lease_s: float = LEASE_S
    look_s: float = _LOOK_S
    ends_within_s: float = _ENDS_WITHIN_S
    materialise: Callable[[Sequence[str]], Child] = _no_views
    base: str = "."
    look_within_s: float = LOOK_WITHIN_S
    measure: Callable[[Mapping[str, Any]], Found] = _no_rows
    _running: dict[str, Started] = field(default_factory=dict, init=False)
    _looking: dict[str, Looking] = field(default_factory=dict, init=False)
    _hanging: dict[str, Look] = field(default_factory=dict, init=False)
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
            while not (once and looked) or self._busy:
                if not stopped.is_set() and not (once and looked):
                    self._take_due()
                    looked = True
                self._step(stopped)
                if stopped.is_set() and not self._busy:
                    break
                if stopped.is_set():
                    time.sleep(_LOOK_AT_END_S)
                elif self._busy or not once:
                    stopped.wait(min(self.look_s, _LOOK_AT_END_S) if once or self._looking else self.look_s)
        finally:
            self._kill_all()
        return tuple(self._ended)

    def run_now(self, name: str, stopped: threading.Event) -> Ended:
        """Start one schedule's pipeline or view now and wait for it; when it is due next stays as it is.

        Args:
            name: The schedule.
            stopped: Interrupts it when set.

        Raises:
            UnknownNameError: There is no such schedule.
            MetadataError: It is being started or running already.
            WorkflowError: It cannot be started.
        """
        schedule = self.metadata.claim_schedule(name, self.owner, self._lease_us)
        now = self.clock.now_us()
        if view_of(schedule) is not None:
            self._start_views([(schedule, None, view_due(schedule, self.metadata, now))], now)
        else:
            self._start(Started(schedule, None, now))
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

    @property
    def _busy(self) -> bool:
        return bool(self._running or self._looking)

    def _take_due(self) -> None:
        now = self.clock.now_us()
        try:
            taken = self.metadata.due_schedules(now, self.owner, self._lease_us)
            # Where this process was asleep for longer than its leases, what is still under way is among them.
            due = [one for one in taken if one.name not in self._running and one.name not in self._looking]
            views = [one for one in due if view_of(one) is not None]
            found = [(one, one.next_us, view_due(one, self.metadata, now)) for one in views]
        except MetadataError as error:
            self.say(f"cannot see what is due, and looks again: {error}")
            return
        for one in due:
            at = one.next_us if one.next_us is not None else now
            if is_watch(one):
                self._look(one, at)
            elif view_of(one) is None:
                self._start_by_cron(one, at, now)
        self._start_views([one for one in found if not self._is_done(one[0], one[2])], now)

    def _start_by_cron(self, one: Schedule, at: int, now: int) -> None:
        missed = count_between(one.cron, one.zone, at, now) if one.cron is not None else 0
        told = f"{one.name}: due {format_time(at)}"
        if missed:
            told += f"; it came due {missed} more times since, which this run makes up for"
        self.say(told)
        self._start(Started(one, at, now, missed=missed))

    def _is_done(self, one: Schedule, due: ViewDue) -> bool:
        """Whether somebody has materialised a view already; then it is due at its next boundary."""
        if due.done:
            next_us, seen = after_view(one, due, failed=False, now_us=self.clock.now_us())
            self._release(one, next_us, seen)
        return due.done

    def _start_views(self, views: Sequence[tuple[Schedule, int | None, ViewDue]], now: int) -> None:
        """Materialise what is due in one process: its views are one set of tasks, and none stops another."""
        if not views:
            return
        for one, due_us, due in views:
            told = f"{one.name}: " + ("" if due_us is None else f"due {format_time(due_us)}, ")
            told += f"to {format_time(due.boundary_us)}"
            if due.missed:
                told += f"; {due.missed} boundaries before it were missed, which this run makes up for"
            self.say(told)
        begun = [Started(one, at, now, missed=due.missed, view=due) for one, at, due in views]
        try:
            child = self.materialise([str(view_of(one)) for one, _, _ in views])
        except OSError as error:
            for start in begun:
                self._finish(start, Outcome(None, None, f"cannot be started: {error}"))
            return
        for start in begun:
            start.child = child
            self._running[start.schedule.name] = start

    def _start(self, one: Started) -> None:
        try:
            one.child = self.start(one.schedule.pipeline)
        except OSError as error:
            self._finish(one, Outcome(None, None, f"cannot be started: {error}"))
            return
        self._running[one.schedule.name] = one

    def _look(self, one: Schedule, due_us: int) -> None:
        before = self._hanging.get(one.name)
        look = before if before is not None and before.hangs else None
        if look is None:
            training = Training(self.metadata, self.measure)
            look = look_at(one, self.base, training, within_s=self.look_within_s)
        self._looking[one.name] = Looking(one, due_us, look, time.monotonic())

    def _step(self, stopped: threading.Event) -> None:
        """Renew, interrupt and collect what is under way."""
        for name, looking in list(self._looking.items()):
            self._look_on(name, looking, stopped)
        for name, one in list(self._running.items()):
            status = None if one.child is None else one.child.poll()
            if status is not None:
                del self._running[name]
                self._collect(one, status)
                continue
            if stopped.is_set():
                self._stop(one)
            self._renew(one)

    def _look_on(self, name: str, looking: Looking, stopped: threading.Event) -> None:
        seen = looking.look.ended()
        if seen is None and not stopped.is_set():
            passed = time.monotonic() - looking.renewed
            if passed > self.lease_s / 3:
                try:
                    self.metadata.claim_schedule(name, self.owner, self._lease_us)
                    looking.renewed = time.monotonic()
                except (MetadataError, UnknownNameError) as error:
                    if passed > self.lease_s or isinstance(error, UnknownNameError):
                        self.say(f"{name}: is not looked at any more: {error}")
                        del self._looking[name]
            return
        del self._looking[name]
        if looking.look.hangs:
            self._hanging[name] = looking.look
        if seen is None or stopped.is_set():
            self._release(looking.schedule, looking.due_us, None)
            return
        now = self.clock.now_us()
        if isinstance(seen, str):
            self.say(f"{name}: cannot be looked at: {seen}")
            self._follow(looking, after_failed_look(looking.schedule, seen, now), now)
        else:
            self._follow(looking, after_look(looking.schedule, seen, now), now)

    def _follow(self, looking: Looking, verdict: Verdict, now: int) -> None:
        one = looking.schedule
        if verdict.why is None:
            self._release(one, verdict.next_us, verdict.seen)
            return
        if self._is_still_due(one):
            self.say(f"{one.name}: {verdict.why}")
            self._start(Started(one, looking.due_us, now, verdict=verdict))

    def _is_still_due(self, one: Schedule) -> bool:
        """Whether what was due when it was taken is so still: a look can outlast a lease, and what people change."""
        try:
            now = self.metadata.claim_schedule(one.name, self.owner, self._lease_us)
        except (MetadataError, UnknownNameError) as error:
            self.say(f"{one.name}: is not started: {error}")
            return False
        if not now.paused and (now.next_us, now.triggers) == (one.next_us, one.triggers):
            return True
        self.say(f"{one.name}: is not started, for meanwhile it was paused, declared otherwise or seen to")
        self._release(now, now.next_us, None)
        return False

    def _release(self, one: Schedule, next_us: int | None, seen: Mapping[str, Any] | None) -> None:
        """Give a lease back where nothing was started, unless the schedule was declared otherwise meanwhile."""
        try:
            self.metadata.release_schedule(one.name, self.owner, next_us=next_us, seen=seen, of=one)
        except UnknownNameError:
            self.say(f"{one.name}: is declared no more")
        except MetadataError as lost:
            _log.warning("the lease of schedule %s could not be given back: %s", one.name, lost)

    def _renew(self, one: Started) -> None:
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

    def _stop(self, one: Started) -> None:
        if one.child is None:
            return
        if one.stopping_since is None:
            one.child.interrupt()  # once, also where several views share it: a second one would cut off its clearing up
            for other in self._running.values():
                if other.child is one.child:
                    other.stopping_since = time.monotonic()
            one.stopping_since = time.monotonic()
        elif time.monotonic() - one.stopping_since > self.ends_within_s:
            one.child.kill()

    def _collect(self, one: Started, status: int) -> None:
        try:
            outcome = outcome_of(one, status, self.metadata)
        except MetadataError as error:
            outcome = Outcome(None, status, f"what came of it cannot be read: {error}")
        if one.lost:
            self._ended.append(one.ended(outcome))
            return
        self._finish(one, outcome)

    def _finish(self, one: Started, outcome: Outcome) -> None:
        name, run, error = one.schedule.name, outcome.run, outcome.error
        self._ended.append(one.ended(outcome))
        self.say(f"{name}: {error or 'done'}" + (f", run {run}" if run else ""))
        try:
            now = self.metadata.get_schedule(name)
            next_us, seen = due_again(one, outcome, now, self.clock.now_us())
            self.metadata.finish_schedule(
                name, self.owner, next_us=next_us, run_id=run, error=error, seen=seen, of=now
            )
        except UnknownNameError:
            self.say(f"{name}: is declared no more")
        except MetadataError as lost:
            _log.warning("what came of schedule %s could not be written down: %s", name, lost)

    def _kill_all(self) -> None:
        for one in self._running.values():
            if one.child is not None:
                one.child.kill()
        self._running.clear()
        self._looking.clear()
