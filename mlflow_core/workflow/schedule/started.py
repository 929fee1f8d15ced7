"""What a scheduler has begun: pipelines and materialisations that run, looks that are being taken, and what became of them.

Says nothing to the database; ``scheduler`` does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_core.metadata import MetadataStore, Schedule
from mlflow_core.workflow.schedule.child import Child, what_was_said
from mlflow_core.workflow.schedule.looking import Look
from mlflow_core.workflow.schedule.times import next_time
from mlflow_core.workflow.schedule.views import ViewDue, after_view, reached, view_of, what_was_said_of
from mlflow_core.workflow.schedule.watching import Verdict, after_start, is_watch

__all__ = ["Ended", "Looking", "Outcome", "Started", "due_again", "outcome_of"]


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of one start.

    Attributes:
        schedule: The schedule.
        pipeline: The pipeline; for a view's schedule its own name.
        due_us: When it was due; None where a person started it.
        missed: How many further times came due before it was started, for which nothing else is done.
        run: The run, if one was recorded.
        status: The exit status of its process, of a view 0 where it came as far as it was to; negative for a signal.
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
class Started:
    """One start.

    Attributes:
        schedule: The schedule as it was when it was taken.
        due_us: When it was due; None where a person started it.
        started_us: When it was started, microseconds since the epoch, UTC.
        child: Its process, which several views may share; None where none could be started.
        missed: As in ``Ended``.
        view: What it is due for, where it is a view.
        verdict: What it followed from, where it was looked at before.
        renewed: When its lease was renewed last, by ``time.monotonic``.
        stopping_since: Since when it is asked to end.
        lost: Whether its lease has gone to somebody else.
    """

    schedule: Schedule
    due_us: int | None
    started_us: int
    child: Child | None = None
    missed: int = 0
    view: ViewDue | None = None
    verdict: Verdict | None = None
    renewed: float = 0.0
    stopping_since: float | None = None
    lost: bool = False

    def __post_init__(self) -> None:
        self.renewed = time.monotonic()

    def ended(self, outcome: Outcome) -> Ended:
        """Say what came of it."""
        one = self.schedule
        return Ended(
            one.name, one.pipeline, self.due_us, self.missed, outcome.run, outcome.status, outcome.error
        )


@dataclass
class Looking:
    """One look that is being taken.

    Attributes:
        schedule: The schedule as it was when it was taken.
        due_us: When it was due.
        look: The look.
        renewed: When its lease was renewed last, by ``time.monotonic``.
    """

    schedule: Schedule
    due_us: int
    look: Look
    renewed: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a start ended.

    Attributes:
        run: The run, if one was recorded.
        status: As in ``Ended``.
        error: As in ``Ended``.
        interrupted: Whether it was ended because its scheduler was; it stays due then.
    """

    run: str | None
    status: int | None
    error: str | None
    interrupted: bool = False


def outcome_of(one: Started, status: int, metadata: MetadataStore) -> Outcome:
    """Say how a start has ended whose process has.

    Args:
        one: The start.
        status: The exit status of its process.
        metadata: Where runs and materialisations are recorded.

    Raises:
        MetadataError: The database cannot be read.
    """
    view = view_of(one.schedule)
    if view is not None and one.view is not None:
        if reached(metadata, view, one.view) is not None:
            return Outcome(None, 0, None)
        status = status or 1
    interrupted = one.stopping_since is not None and status != 0
    error = None if status == 0 else _what_was_said(one, status, view)
    if interrupted:
        error = "interrupted, because its scheduler was ended"
    run = None if view is not None else _run_of(one, metadata)
    return Outcome(run, status, error, interrupted)


def due_again(
    one: Started, outcome: Outcome, now: Schedule, now_us: int
) -> tuple[int | None, Mapping[str, Any] | None]:
    """Say when a schedule is due again after a start, and what to keep in mind of it.

    Args:
        one: The start.
        outcome: How it ended.
        now: The schedule as it is now; it may have been declared otherwise meanwhile.
        now_us: Now, microseconds since the epoch, UTC.
    """
    if outcome.interrupted:
        return one.due_us if one.due_us is not None else now.next_us, None
    then = one.schedule
    # When another line is due, was said as it was declared; nothing of it was missed before.
    if one.due_us is None or (now.cron, now.zone, now.triggers) != (then.cron, then.zone, then.triggers):
        return now.next_us, None
    if one.view is not None:
        return after_view(now, one.view, failed=outcome.error is not None, now_us=now_us)
    if is_watch(now):
        return after_start(now, one.verdict, one.started_us)
    return None if now.cron is None else next_time(now.cron, now.zone, one.started_us), None


def _run_of(one: Started, metadata: MetadataStore) -> str | None:
    """The run that a start made: the newest of its pipeline since then."""
    found = metadata.list_runs(pipeline=one.schedule.pipeline, limit=1)
    return found[0].id if found and found[0].created_us >= one.started_us else None


def _what_was_said(one: Started, status: int, view: str | None) -> str:
    """The message of the last line that a child printed: our commands end with one JSON line where they fail."""
    text = one.child.output.read_text(errors="replace") if one.child is not None else ""
    if view is not None and (said := what_was_said_of(view, text)) is not None:
        return said
    lines = text.strip().splitlines()
    return what_was_said(lines, status, of_these=1 if view is None else len(lines))
