"""One look at a condition in a thread of its own: a source that hangs must hold up neither leases nor other pipelines.

The thread is a daemon, which those of ``concurrent.futures`` are not: nor must it keep the process. Where rows have to be
read, the thread waits for a process that does so.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from threading import Thread
from typing import Any, Final

from mlflow_core.errors import WorkflowError
from mlflow_core.metadata import Schedule
from mlflow_core.telemetry.logs import get_logger
from mlflow_core.workflow.schedule.child import Child, what_was_said
from mlflow_core.workflow.schedule.conditions import Sight, condition_of, reads_rows
from mlflow_core.workflow.schedule.sight import Found, Training

__all__ = ["LOOK_WITHIN_S", "READ_WITHIN_S", "Look", "found_by", "look_at"]

LOOK_WITHIN_S: Final = 60.0
"""Seconds after which a look is given up; its thread is left to itself."""

READ_WITHIN_S: Final = 900.0
"""The same where rows may have to be read; a process that does so is ended."""

_log = get_logger(__name__)


class Look:
    """A look that has begun.

    Args:
        work: Looks; called in a thread.
        within_s: How long that may take.
    """

    def __init__(self, work: Callable[[], Sight], *, within_s: float = LOOK_WITHIN_S) -> None:
        self._within_s = within_s
        self._began = time.monotonic()
        self._result: Sight | None = None
        self._problem: str | None = None
        self._thread = Thread(target=self._run, args=(work,), name="schedule-look", daemon=True)
        self._thread.start()

    @property
    def hangs(self) -> bool:
        """Whether its thread is still at it after the time that a look may take."""
        return self._thread.is_alive() and time.monotonic() - self._began > self._within_s

    def ended(self) -> Sight | str | None:
        """What was seen, or one sentence on why nothing was; None while it is being looked at."""
        if self._result is not None:
            return self._result
        if self._problem is not None:
            return self._problem
        return f"it could not be looked at within {self._within_s:g} s" if self.hangs else None

    def _run(self, work: Callable[[], Sight]) -> None:
        try:
            self._result = work()
        except Exception as error:
            # The boundary of a thread: what is wrong with one source must not end the scheduler.
            _log.debug("a look failed", exc_info=True)
            self._problem = str(error) or type(error).__name__


def look_at(schedule: Schedule, base: str, training: Training, *, within_s: float = LOOK_WITHIN_S) -> Look:
    """Begin to look at what a schedule waits for.

    Args:
        schedule: A schedule with a condition.
        base: Folder of the feature repository.
        training: Whom to ask of trainings.
        within_s: How long that may take where no rows are read.
    """
    when = schedule.triggers["when"]

    def work() -> Sight:
        seen: dict[str, Any] = dict(schedule.seen)
        condition = condition_of(when, base, training)
        return condition.look(seen.get("started_with"), seen.get("last"))

    # What reads has time to be ended, and to say so.
    return Look(work, within_s=READ_WITHIN_S + within_s if reads_rows(when) else within_s)


def found_by(child: Child, *, within_s: float = READ_WITHIN_S) -> Found:
    """Wait for a process that looks, and read what it found.

    Args:
        child: ``mlcore --json schedule look NAME``, started by the thread that calls this.
        within_s: How long it may take; then it is ended.

    Raises:
        WorkflowError: It failed, took too long, or printed something else.
    """
    try:
        status = child.process.wait(within_s)
    except subprocess.TimeoutExpired:
        child.kill()
        raise WorkflowError(f"it could not be looked at within {within_s:g} s") from None
    text = child.output.read_text(errors="replace")
    if status:
        raise WorkflowError(what_was_said(text.strip().splitlines(), status))
    # Lines of the log may come before the document, and behind it what libraries say as the process ends.
    begins = max(f"\n{text}".rfind("\n{\n"), 0)
    try:
        found: Found = json.JSONDecoder().raw_decode(text, begins)[0]["found"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise WorkflowError(f"what it found cannot be read: {text.strip()[-200:]}") from None
    return found
