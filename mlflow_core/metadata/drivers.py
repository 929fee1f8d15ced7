"""Who drives a run: its lease, what becomes of it when its driver is lost, and how it is asked to stop.

A run has one driver at a time. Whoever wants it to stop does not reach the driver: they leave a note in the database,
which the driver reads; only a run that nobody drives is ended at once.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from mlflow_core.config.clock import Clock
from mlflow_core.config.times import format_time
from mlflow_core.errors import MetadataError
from mlflow_core.metadata.audit import append
from mlflow_core.metadata.records import Run, RunState
from mlflow_core.metadata.runs import Runs, run_of
from mlflow_core.metadata.tables import RunRow


class Drivers(Runs):
    """The drivers of one project's runs."""

    _leases: Clock | None = None

    @property
    def _lease_clock(self) -> Clock:
        return self._leases or self._clock

    def take_lease(self, run_id: str, owner: str, for_us: int) -> Run:
        """Become, or stay, the one driver of a run. Taken from a dead driver, its open steps have crashed.

        Args:
            run_id: The run.
            owner: Who drives it; unique for each process.
            for_us: How long from now, in microseconds.

        Raises:
            MetadataError: Another driver's lease has not run out, or the run has ended.
        """
        now = self._lease_clock.now_us()
        with self._database.writing() as session:
            row = self._open_row(session, run_id)
            held = row.lease_until_us is not None and row.lease_until_us > now
            if held and row.lease_owner != owner:
                raise MetadataError(
                    f"is driven by {row.lease_owner} until {format_time(row.lease_until_us or 0)}",
                    object=f"Run {row.id}",
                    hint="Wait for that time, or end that driver.",
                )
            if row.lease_owner not in (None, owner):
                self._close_steps(session, row.id, RunState.CRASHED, "its driver was lost")
            row.lease_owner, row.lease_until_us = owner, now + for_us
            return run_of(row)

    def end_lost_runs(self) -> list[Run]:
        """End the runs whose driver was lost: they and their open steps have crashed.

        Returns:
            Them; a run without a lease is not judged.
        """
        with self._database.writing() as session:
            rows = list(
                session.scalars(
                    select(RunRow).where(
                        RunRow.project_id == self._find_project(session),
                        RunRow.state == RunState.RUNNING,
                        RunRow.lease_until_us < self._lease_clock.now_us(),
                    )
                )
            )
            for row in rows:
                self._close_steps(session, row.id, RunState.CRASHED, "its driver was lost")
                last = format_time(row.lease_until_us or 0)
                row.state, row.ended_us = RunState.CRASHED, self._clock.now_us()
                row.error = f"its driver {row.lease_owner} was lost; its lease ran out at {last}"
                row.lease_owner = row.lease_until_us = None
            return [run_of(row) for row in rows]

    def request_cancel(self, run_id: str, *, why: str = "") -> Run:
        """Ask a run to stop. Where no driver's lease is alive it is cancelled at once, and so are its open steps.

        Args:
            run_id: The run.
            why: The reason, in words.

        Returns:
            The run: ``cancelled``, or ``running`` until its driver has seen it. Asking twice is harmless.

        Raises:
            MetadataError: It has ended.
        """
        now = self._clock.now_us()
        with self._database.writing() as session:
            row = self._open_row(session, run_id)
            if row.cancel_requested_us is None:
                row.cancel_requested_us, row.cancel_requested_by = now, self._principal.name
                append(
                    session,
                    self._clock,
                    self._principal,
                    self._scope_name,
                    "run.cancel",
                    f"run:{row.id}",
                    {"why": why},
                )
            if row.lease_until_us is None or row.lease_until_us <= self._lease_clock.now_us():
                self._close_steps(session, row.id, RunState.CANCELLED, "the run was cancelled")
                row.state, row.ended_us = RunState.CANCELLED, now
                row.error = f"cancelled by {row.cancel_requested_by}"
                row.lease_owner = row.lease_until_us = None
            return run_of(row)

    def cancel_requested(self, run_id: str) -> bool:
        """Whether somebody has asked a run to stop since it was last started.

        Raises:
            UnknownNameError: There is no such run.
        """
        with self._database.reading() as session:
            return self._run_row(session, run_id).cancel_requested_us is not None

    def _open_row(self, session: Session, run_id: str) -> RunRow:
        row = self._run_row(session, run_id)
        if RunState(row.state).ended:
            raise MetadataError(
                f"has {row.state}", object=f"Run {row.id}", expected="a run that has not ended"
            )
        return row
