"""Schedules: which pipeline is started by itself, when next, and who is starting it now.

Nothing here reads a cron line or a clock's hands: callers say what time is next. A scheduler's loop is::

    for one in store.due_schedules(now_us, owner, lease_us):     # takes their leases, in one transaction
        ... start the pipeline; now and then store.claim_schedule(one.name, owner, lease_us), which renews ...
        store.finish_schedule(one.name, owner, next_us=..., run_id=...)

A schedule whose scheduler died is due again when its lease has run out. What a trigger or a person starts is taken
with ``claim_schedule`` and given back with ``finish_schedule``, so that nothing is started twice at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from mlflow_core.config.times import format_time
from mlflow_core.errors import MetadataError, UnknownNameError, nearest
from mlflow_core.metadata.audit import append
from mlflow_core.metadata.canonical import plain
from mlflow_core.metadata.records import to_record
from mlflow_core.metadata.scope import Scope
from mlflow_core.metadata.tables import ScheduleRow

__all__ = ["Schedule", "Schedules"]

_DECLARED: Final = ("pipeline", "cron", "zone", "triggers")


@dataclass(frozen=True)
class Schedule:
    """A pipeline or view that is seen to by itself: by ``cron`` in the time zone ``zone``, or by ``triggers``.

    ``next_us`` is when it is due next, to be started or looked at; ``seen`` is what its triggers keep in mind;
    ``last_run``, ``last_us`` and ``last_error`` tell of the last start.
    """

    id: int
    name: str
    pipeline: str
    cron: str | None
    zone: str
    triggers: Mapping[str, Any]
    seen: Mapping[str, Any]
    paused: bool
    next_us: int | None
    last_run: str | None
    last_us: int | None
    last_error: str | None
    lease_owner: str | None
    lease_until_us: int | None
    principal: str
    established: str
    created_us: int
    changed_us: int


class Schedules(Scope):
    """The schedules of one project."""

    def put_schedule(
        self,
        name: str,
        *,
        pipeline: str,
        cron: str | None = None,
        zone: str = "UTC",
        triggers: Mapping[str, Any] | None = None,
        seen: Mapping[str, Any] | None = None,
        next_us: int | None = None,
    ) -> Schedule:
        """Declare a schedule, or change the one of this name. The same declaration again changes nothing.

        Args:
            name: The schedule's name.
            pipeline: What it starts.
            cron: When, as a cron line; None where only triggers start it.
            zone: The time zone of the cron line.
            triggers: What starts it where no cron line does.
            seen: What its triggers keep in mind from now on; what they had in mind where None.
            next_us: When it is due next, microseconds since the epoch, UTC. Kept only where the schedule is new, or its
                cron or zone or, without a cron line, its triggers changed, so that declaring it again skips nothing that
                is due.

        Returns:
            The schedule; paused, if it was.
        """
        said = {"pipeline": pipeline, "cron": cron, "zone": zone, "triggers": plain(triggers or {})}
        now = self._clock.now_us()
        with self._database.writing() as session:
            row = self._find_schedule(session, name)
            if row is not None and said == {column: getattr(row, column) for column in _DECLARED}:
                return to_record(Schedule, row)
            if row is None:
                project = self._project_id(session)
                row = ScheduleRow(project_id=project, name=name, paused=False, seen={}, created_us=now)
                session.add(row)
            if (row.cron, row.zone) != (cron, zone) or (cron is None and row.triggers != said["triggers"]):
                row.next_us = next_us
            if seen is not None:
                row.seen = plain(seen)
            for column, value in said.items():
                setattr(row, column, value)
            row.changed_us = now
            row.principal, row.established = self._principal.name, self._principal.established
            self._note_schedule(session, "schedule.put", name, said)
            return to_record(Schedule, row)

    def remove_schedule(self, name: str) -> None:
        """Take a schedule away; what it has started goes on.

        Raises:
            UnknownNameError: There is no such schedule.
        """
        with self._database.writing() as session:
            session.delete(self._schedule_row(session, name))
            self._note_schedule(session, "schedule.remove", name, {})

    def get_schedule(self, name: str) -> Schedule:
        """A schedule by its name.

        Raises:
            UnknownNameError: There is no such schedule.
        """
        with self._database.reading() as session:
            return to_record(Schedule, self._schedule_row(session, name))

    def list_schedules(self) -> list[Schedule]:
        """All schedules of this project, by name."""
        with self._database.reading() as session:
            rows = session.scalars(self._schedule_rows(session).order_by(ScheduleRow.name))
            return [to_record(Schedule, row) for row in rows]

    def pause_schedule(self, name: str, *, why: str = "") -> Schedule:
        """Let a schedule start nothing until it is resumed; what it has started goes on.

        Raises:
            UnknownNameError: There is no such schedule.
        """
        with self._database.writing() as session:
            row = self._schedule_row(session, name)
            if not row.paused:
                row.paused, row.changed_us = True, self._clock.now_us()
                self._note_schedule(session, "schedule.pause", name, {"why": why})
            return to_record(Schedule, row)

    def resume_schedule(self, name: str, *, next_us: int | None = None) -> Schedule:
        """Let a paused schedule start its pipeline again. One that is not paused stays as it is.

        Args:
            name: The schedule.
            next_us: When it is due next: what came due while it was paused is not made up for.

        Raises:
            UnknownNameError: There is no such schedule.
        """
        with self._database.writing() as session:
            row = self._schedule_row(session, name)
            if row.paused:
                row.paused, row.next_us, row.changed_us = False, next_us, self._clock.now_us()
                self._note_schedule(session, "schedule.resume", name, {"next_us": next_us})
            return to_record(Schedule, row)

    def due_schedules(self, now_us: int, owner: str, lease_us: int) -> list[Schedule]:
        """Take the leases of all schedules that are due, so that nobody else starts them.

        Args:
            now_us: The time, microseconds since the epoch, UTC.
            owner: Who starts them; unique for each process.
            lease_us: How long from ``now_us``, in microseconds.

        Returns:
            Those that are not paused, due and led by nobody, the longest due first.
        """
        free = or_(ScheduleRow.lease_until_us.is_(None), ScheduleRow.lease_until_us <= now_us)
        with self._database.writing() as session:
            due = self._schedule_rows(session).where(
                ScheduleRow.paused.is_(False), ScheduleRow.next_us <= now_us, free
            )
            rows = list(session.scalars(due.order_by(ScheduleRow.next_us, ScheduleRow.name)))
            for row in rows:
                row.lease_owner, row.lease_until_us = owner, now_us + lease_us
            return [to_record(Schedule, row) for row in rows]

    def claim_schedule(self, name: str, owner: str, lease_us: int) -> Schedule:
        """Take or renew the lease of one schedule, due or not, paused or not.

        Args:
            name: The schedule.
            owner: Who starts it; unique for each process.
            lease_us: How long from now, in microseconds.

        Raises:
            UnknownNameError: There is no such schedule.
            MetadataError: Somebody else's lease has not run out.
        """
        now = self._clock.now_us()
        with self._database.writing() as session:
            row = self._schedule_row(session, name)
            if row.lease_owner not in (None, owner) and (row.lease_until_us or 0) > now:
                until = format_time(row.lease_until_us or 0)
                raise MetadataError(
                    f"is being started by {row.lease_owner} until {until}",
                    object=f'Schedule "{name}"',
                    hint="Wait for that time, or end that process.",
                )
            row.lease_owner, row.lease_until_us = owner, now + lease_us
            return to_record(Schedule, row)

    def finish_schedule(
        self,
        name: str,
        owner: str,
        *,
        next_us: int | None,
        run_id: str | None = None,
        error: str | None = None,
        seen: Mapping[str, Any] | None = None,
        of: Schedule | None = None,
    ) -> Schedule:
        """Give a schedule's lease back, and say what came of it.

        Args:
            name: The schedule.
            owner: Who had the lease.
            next_us: When it is due next; None where it never is.
            run_id: The run that was started, if one was.
            error: What went wrong, one sentence.
            seen: What its triggers keep in mind from now on; what they had in mind where None.
            of: The schedule that both follow from: they are left as they are where it was declared otherwise since.

        Raises:
            UnknownNameError: There is no such schedule.
            MetadataError: The lease has gone to somebody else.
        """
        with self._database.writing() as session:
            row = self._led_row(session, name, owner)
            self._must_own(session, run_id=run_id)
            row.lease_owner = row.lease_until_us = None
            row.last_us = self._clock.now_us()
            _due_again(row, next_us, seen, of)
            row.last_run, row.last_error = run_id or row.last_run, error
            return to_record(Schedule, row)

    def release_schedule(
        self,
        name: str,
        owner: str,
        *,
        next_us: int | None,
        seen: Mapping[str, Any] | None = None,
        of: Schedule | None = None,
    ) -> Schedule:
        """Give a schedule's lease back where nothing was started.

        Args:
            name: The schedule.
            owner: Who had the lease.
            next_us: When it is due next, to be started or looked at.
            seen: What its triggers keep in mind from now on; what they had in mind where None.
            of: The schedule that both follow from: they are left as they are where it was declared otherwise since.

        Raises:
            UnknownNameError: There is no such schedule.
            MetadataError: The lease has gone to somebody else.
        """
        with self._database.writing() as session:
            row = self._led_row(session, name, owner)
            row.lease_owner = row.lease_until_us = None
            _due_again(row, next_us, seen, of)
            return to_record(Schedule, row)

    def _schedule_rows(self, session: Session) -> Any:
        return select(ScheduleRow).where(ScheduleRow.project_id == self._find_project(session))

    def _find_schedule(self, session: Session, name: str) -> ScheduleRow | None:
        found: ScheduleRow | None = session.scalar(
            self._schedule_rows(session).where(ScheduleRow.name == name)
        )
        return found

    def _schedule_row(self, session: Session, name: str) -> ScheduleRow:
        row = self._find_schedule(session, name)
        if row is None:
            names = [one.name for one in session.scalars(self._schedule_rows(session))]
            raise UnknownNameError(f'there is no schedule "{name}"', hint=nearest(name, names))
        return row

    def _led_row(self, session: Session, name: str, owner: str) -> ScheduleRow:
        row = self._schedule_row(session, name)
        if row.lease_owner != owner:
            raise MetadataError(
                f"is not led by {owner} any more but by {row.lease_owner or 'nobody'}",
                object=f'Schedule "{name}"',
            )
        return row

    def _note_schedule(self, session: Session, action: str, name: str, details: Mapping[str, Any]) -> None:
        append(session, self._clock, self._principal, self._scope_name, action, f"schedule:{name}", details)


def _due_again(
    row: ScheduleRow, next_us: int | None, seen: Mapping[str, Any] | None, of: Schedule | None
) -> None:
    # Where it was declared anew, both were said then.
    if of is not None and any(getattr(row, name) != getattr(of, name) for name in _DECLARED):
        return
    row.next_us = next_us
    if seen is not None:
        row.seen = plain(seen)
