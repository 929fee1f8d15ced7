"""The hold that a driver has on its run: a lease that it renews while it lives, and an ear for whoever cancels.

A process that is killed cannot write down how its run ended. Its lease then runs out, which ``mlcore runs`` shows
at once, and the next run of the project ends it as crashed; on the machine where it ran its process is looked for, so
that nobody has to wait. A driver that was asleep for longer than its lease finds another one at work, and stops.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from mlflow_core.errors import MetadataError, RunCancelled, WorkflowError
from mlflow_core.metadata import MetadataStore
from mlflow_core.metadata.records import RunState
from mlflow_core.telemetry.logs import get_logger

__all__ = ["LEASE_S", "Hold", "driver_is_gone", "end_lost_runs", "lease_held"]

LEASE_S = 120.0
"""Seconds without a sign of life after which a run's driver counts as lost."""

_LOOK_S = 1.0
_AGAIN_S = 15.0  # a library may swallow an interrupt; sooner, a second one would cut off the cleaning up after the first
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_ALL = 2**31 - 1

_log = get_logger(__name__)


class Hold:
    """A driver's hold on its run, until it is asked to let go.

    Args:
        run_id: The run.
        owner: What the lease calls this driver.
        renew: Renews the lease; raises where another driver has the run.
        lease_s: How long the lease lasts, in seconds.
    """

    def __init__(self, run_id: str, owner: str, renew: Callable[[], object], lease_s: float) -> None:
        self.owner = owner
        self._run_id = run_id
        self._take, self._lease_s = renew, lease_s
        self._renewed = _now_s()
        self._why: Literal["cancelled", "lost"] | None = None
        self._lock = threading.RLock()
        self._interruptible: int | None = None
        self._interrupted = -math.inf

    @property
    def is_lost(self) -> bool:
        """Whether another driver may have the run, so that nothing more is to be written to it."""
        return self._why == "lost"

    def stopped(self) -> bool:
        """Whether the work is to end."""
        return self._why is not None

    def age_s(self) -> float:
        """How long ago the lease was renewed, in seconds."""
        return _now_s() - self._renewed

    def renew(self) -> None:
        """Renew the lease.

        Raises:
            MetadataError: Another driver has the run, it has ended, or the database cannot be written.
        """
        now = _now_s()
        self._take()
        self._renewed = now

    def check(self) -> None:
        """Raise if the work is to end; a lease that ran out, as while this machine slept, is first taken again.

        Raises:
            RunCancelled: Somebody cancelled the run.
            WorkflowError: The lease is lost.
        """
        if self._why is None and self.age_s() > self._lease_s:
            try:
                self.renew()
            except MetadataError as error:
                _log.warning("the lease of run %s ran out: %s", self._run_id, error)
                self.stop("lost")
        if self._why is not None:
            raise self._error()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let work in this thread be interrupted as by Ctrl-C, if it is the main one; others have to ask ``stopped``.

        Raises:
            RunCancelled: Somebody cancelled the run, before or meanwhile.
            WorkflowError: The lease was lost.
        """
        try:
            with self._listening() as can:
                with self._lock:
                    self.check()
                    self._interruptible = threading.get_ident() if can else None
                try:
                    yield
                finally:
                    with self._lock:
                        self._interruptible = None
        except KeyboardInterrupt:
            self.check()
            raise
        self.check()

    def stop(self, why: Literal["cancelled", "lost"]) -> None:
        """End the work, for the first reason that is given; work that goes on is interrupted again when asked later."""
        with self._lock:
            self._why = self._why or why
            if self._interruptible is not None and _now_s() - self._interrupted >= _AGAIN_S:
                self._interrupted = _now_s()
                signal.pthread_kill(self._interruptible, signal.SIGINT)

    @contextmanager
    def _listening(self) -> Iterator[bool]:
        """Whether our interrupt reaches this thread, whatever a shell (``mlcore train &``) or a library made of others."""
        handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or handler is None:
            yield False
        elif handler is signal.default_int_handler:
            signal.signal(
                signal.SIGINT, handler
            )  # a library in C may have put its own there, of which Python knows nothing
            yield True
        else:
            signal.signal(signal.SIGINT, partial(self._interrupt, handler))
            try:
                yield True
            finally:
                signal.signal(signal.SIGINT, handler)

    def _interrupt(self, handler: Callable[..., object] | int, number: int, frame: object) -> None:
        if self._why is not None or handler is signal.SIG_DFL:
            raise KeyboardInterrupt
        if callable(handler):  # anybody else's interrupt means what it meant before
            handler(number, frame)

    def _error(self) -> WorkflowError:
        if self._why == "cancelled":
            return RunCancelled(
                "was cancelled",
                object=f"Run {self._run_id}",
                hint=f"Its finished steps are kept: mlcore runs resume {self._run_id}",
            )
        return WorkflowError(
            "is not this process's any more: its lease ran out, and another driver may have it",
            object=f"Run {self._run_id}",
            hint=f"See: mlcore runs show {self._run_id}",
        )


@contextmanager
def lease_held(
    metadata: MetadataStore, run_id: str, *, lease_s: float = LEASE_S, look_s: float = _LOOK_S
) -> Iterator[Hold]:
    """Hold a run's lease for the time of a ``with`` block, renewed from a thread three times per lease.

    Args:
        metadata: Where the run is written down.
        run_id: The run; it is running.
        lease_s: How long the lease outlives its driver, in seconds.
        look_s: How often the thread looks whether somebody cancelled the run, in seconds.

    Yields:
        The hold, which says when to stop.

    Raises:
        MetadataError: Another driver holds it, or the run has ended.
    """
    owner = _owner()
    renew = partial(metadata.take_lease, run_id, owner, int(lease_s * 1e6))
    renew()
    hold = Hold(run_id, owner, renew, lease_s)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(min(look_s, lease_s / 3)):
            try:
                if hold.age_s() >= lease_s / 3:
                    hold.renew()
                if metadata.cancel_requested(run_id):
                    hold.stop("cancelled")
            except MetadataError as error:
                # A busy database is worth another try, another driver is not.
                _log.warning("the lease of run %s was not renewed: %s", run_id, error)
                if hold.age_s() >= lease_s or _is_taken(metadata, run_id, owner):
                    hold.stop("lost")

    thread = threading.Thread(target=watch, name=f"lease-{run_id}", daemon=True)
    thread.start()
    try:
        yield hold
    finally:
        ended.set()
        thread.join()


def end_lost_runs(metadata: MetadataStore) -> None:
    """End the runs whose driver was lost: whose lease has run out, or whose process on this machine has ended."""
    metadata.end_lost_runs()
    for run in metadata.list_runs(state=RunState.RUNNING, limit=_ALL):
        if driver_is_gone(run.lease_owner):
            why = f"its driver {run.lease_owner} was lost: the process has ended"
            try:
                metadata.finish_run(run.id, RunState.CRASHED, error=why, driver=run.lease_owner)
            except MetadataError as error:
                _log.info("run %s was taken up meanwhile: %s", run.id, error)


def driver_is_gone(owner: str | None) -> bool:
    """Whether a lease's owner was a process of this machine that has ended; False where that cannot be known.

    Args:
        owner: ``Run.lease_owner``.

    Example:
        >>> driver_is_gone(None)
        False
    """
    host, pid, started = ([*(owner or "").split(":"), "", ""])[:3]
    if host != socket.gethostname() or not pid.isdecimal() or not started.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # somebody else's process of that number: it may well be the driver
    return _started(int(pid)) != int(started)


def _now_s() -> float:
    """A clock that goes on while the machine is asleep, in seconds."""
    return time.clock_gettime(_CLOCK)


def _owner() -> str:
    """Name this driver: its machine, its process and when that began, because numbers of processes come again."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}:{uuid.uuid4().hex[:8]}"


def _started(pid: int) -> int:
    """When a process began, in the kernel's ticks; -1 for one that has ended and was not waited for, 0 if unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return -1 if fields[0] == "Z" else int(fields[19])


def _is_taken(metadata: MetadataStore, run_id: str, owner: str) -> bool:
    try:
        run = metadata.get_run(run_id)
    except MetadataError:
        return False
    return run.state.ended or run.lease_owner not in (None, owner)
