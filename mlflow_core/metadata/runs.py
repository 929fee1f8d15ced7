"""Runs and their steps: created, started, ended, found again. The one place that knows which change is legal.

pending -> running -> succeeded | failed | crashed | cancelled
pending -> cancelled;  failed, crashed, cancelled -> running (resumed)
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from mlflow_core.config.times import format_time
from mlflow_core.errors import MetadataError, UnknownNameError, nearest
from mlflow_core.metadata.canonical import plain
from mlflow_core.metadata.records import Run, RunState, Step, to_record
from mlflow_core.metadata.scope import Scope
from mlflow_core.metadata.tables import DatasetRow, RunRow, StepRow

_RESUMABLE: Final = (RunState.PENDING, RunState.FAILED, RunState.CRASHED, RunState.CANCELLED)


class Runs(Scope):
    """Runs and steps of one project."""

    def create_run(
        self,
        pipeline: str,
        *,
        kind: str = "train",
        pending: bool = False,
        pipeline_fingerprint: str | None = None,
        dataset_id: int | None = None,
        parent_id: str | None = None,
        seed: int | None = None,
        code: Mapping[str, Any] | None = None,
        environment: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> Run:
        """Begin a run.

        Args:
            pipeline: The pipeline's name.
            kind: What it does: ``train``, ``tune``, ``materialise``, ...
            pending: Only note it; :meth:`start_run` starts it.
            pipeline_fingerprint: Of the pipeline's spec and code.
            dataset_id: The dataset it reads, if that is known already.
            parent_id: The run that started this one.
            seed: What randomness began with.
            code: Commit, hashes.
            environment: Python, packages, machine.
            tags: Anything else.

        Returns:
            The run; its id begins with the time, so ids sort as runs began.
        """
        now = self._clock.now_us()
        row = RunRow(
            id=_new_id(now),
            pipeline=pipeline,
            kind=kind,
            state=RunState.PENDING if pending else RunState.RUNNING,
            pipeline_fingerprint=pipeline_fingerprint,
            dataset_id=dataset_id,
            parent_id=parent_id,
            principal=self._principal.name,
            established=self._principal.established,
            seed=seed,
            code=plain(code or {}),
            environment=plain(environment or {}),
            tags=plain(tags or {}),
            created_us=now,
            started_us=None if pending else now,
        )
        with self._database.writing() as session:
            row.project_id = self._project_id(session)
            session.add(row)
            session.flush()
            return _run(row)

    def start_run(self, run_id: str) -> Run:
        """Start a pending run, or resume one that failed, crashed or was cancelled.

        Raises:
            MetadataError: It is running or has succeeded.
        """
        with self._database.writing() as session:
            row = self._run_row(session, run_id)
            if row.state not in _RESUMABLE:
                raise _illegal("Run", row.id, row.state, RunState.RUNNING)
            row.state, row.ended_us, row.error = RunState.RUNNING, None, None
            row.started_us = row.started_us if row.started_us is not None else self._clock.now_us()
            return _run(row)

    def finish_run(self, run_id: str, state: RunState | str, *, error: str | None = None) -> Run:
        """End a run, and with it the steps that still run.

        Args:
            run_id: The run.
            state: ``succeeded``, ``failed`` (the user's error), ``crashed`` or ``cancelled``.
            error: What went wrong, one sentence.

        Raises:
            MetadataError: It is not running, or shall have succeeded while a step still runs.
        """
        state = _ending(state)
        with self._database.writing() as session:
            row = self._run_row(session, run_id)
            legal = row.state == RunState.RUNNING or (row.state, state) == (
                RunState.PENDING,
                RunState.CANCELLED,
            )
            if not legal:
                raise _illegal("Run", row.id, row.state, state)
            open_steps = list(session.scalars(_open_steps(row.id)))
            if open_steps and state == RunState.SUCCEEDED:
                raise MetadataError(
                    f'cannot have succeeded while step "{open_steps[0].name}" is running',
                    object=f"Run {row.id}",
                )
            self._close_steps(session, row.id, state, "the run ended")
            row.state, row.error, row.ended_us = state, error, self._clock.now_us()
            row.lease_owner = row.lease_until_us = None
            return _run(row)

    def take_lease(self, run_id: str, owner: str, for_us: int) -> Run:
        """Become, or stay, the one driver of a run. Taken from a dead driver, its open steps have crashed.

        Args:
            run_id: The run.
            owner: Who drives it; unique for each process.
            for_us: How long from now, in microseconds.

        Raises:
            MetadataError: Another driver's lease has not run out, or the run has ended.
        """
        now = self._clock.now_us()
        with self._database.writing() as session:
            row = self._run_row(session, run_id)
            if RunState(row.state).ended:
                raise MetadataError(
                    f"has {row.state}", object=f"Run {row.id}", expected="a run that has not ended"
                )
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
            return _run(row)

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
                        RunRow.lease_until_us < self._clock.now_us(),
                    )
                )
            )
            for row in rows:
                self._close_steps(session, row.id, RunState.CRASHED, "its driver was lost")
                last = format_time(row.lease_until_us or 0)
                row.state, row.ended_us = RunState.CRASHED, self._clock.now_us()
                row.error = f"its driver {row.lease_owner} was lost; its lease ran out at {last}"
                row.lease_owner = row.lease_until_us = None
            return [_run(row) for row in rows]

    def use_dataset(self, run_id: str, dataset_id: int) -> Run:
        """Note which dataset a run reads.

        Raises:
            UnknownNameError: There is no such dataset in this project.
        """
        with self._database.writing() as session:
            row = self._run_row(session, run_id)
            dataset = session.get(DatasetRow, dataset_id)
            if dataset is None or dataset.project_id != row.project_id:
                raise UnknownNameError(f"there is no dataset {dataset_id}")
            row.dataset_id = dataset_id
            return _run(row)

    def get_run(self, run_id: str) -> Run:
        """A run by its id, by the beginning of its id where only one begins so, or ``latest``.

        Raises:
            UnknownNameError: There is none, or there are several.
        """
        with self._database.reading() as session:
            return _run(self._run_row(session, run_id))

    def list_runs(
        self,
        *,
        pipeline: str | None = None,
        state: RunState | str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[Run]:
        """Runs, the newest first.

        Args:
            pipeline: Only this one's.
            state: Only in this state.
            limit: At most so many.
            offset: Leave out so many of the newest.
        """
        with self._database.reading() as session:
            query = select(RunRow).where(RunRow.project_id == self._find_project(session))
            if pipeline is not None:
                query = query.where(RunRow.pipeline == pipeline)
            if state is not None:
                query = query.where(RunRow.state == RunState(state))
            query = query.order_by(RunRow.created_us.desc(), RunRow.id.desc()).limit(limit).offset(offset)
            return [_run(row) for row in session.scalars(query)]

    def start_step(
        self,
        run_id: str,
        name: str,
        *,
        worker: str | None = None,
        cache_key: str | None = None,
        cache_parts: Mapping[str, Any] | None = None,
    ) -> Step:
        """Begin an attempt at a step; the first has the number 1.

        Args:
            run_id: A running run.
            name: The step's name in its pipeline.
            worker: Where it runs.
            cache_key: What its output is found by.
            cache_parts: What the key was made of, for ``why``.

        Raises:
            MetadataError: The run is not running, or an attempt at this step is.
        """
        with self._database.writing() as session:
            run = self._run_row(session, run_id)
            if run.state != RunState.RUNNING:
                raise MetadataError(
                    f'is {run.state}: step "{name}" cannot start',
                    object=f"Run {run.id}",
                    expected="a running run",
                )
            of_step = (StepRow.run_id == run.id, StepRow.name == name)
            if (
                session.scalar(select(StepRow.id).where(*of_step, StepRow.state == RunState.RUNNING))
                is not None
            ):
                raise MetadataError(f'an attempt at step "{name}" is running already', object=f"Run {run.id}")
            last = session.scalar(select(func.max(StepRow.attempt)).where(*of_step)) or 0
            row = StepRow(
                run_id=run.id,
                name=name,
                attempt=last + 1,
                state=RunState.RUNNING,
                started_us=self._clock.now_us(),
                worker=worker,
                cache_key=cache_key,
                cache_parts=plain(cache_parts or {}),
                cache_hit=False,
            )
            session.add(row)
            session.flush()
            return _step(row)

    def finish_step(
        self,
        step_id: int,
        state: RunState | str = RunState.SUCCEEDED,
        *,
        output_digest: str | None = None,
        cache_hit: bool = False,
        exit_reason: str | None = None,
        error: str | None = None,
        memory_bytes: int | None = None,
        cpu_us: int | None = None,
    ) -> Step:
        """End an attempt at a step.

        Args:
            step_id: ``Step.id``.
            state: ``succeeded``, ``failed``, ``crashed`` or ``cancelled``.
            output_digest: Its output in the artifact store.
            cache_hit: It was found, not computed.
            exit_reason: Such as ``timeout``, ``signal 9``, ``out of memory``.
            error: What went wrong, one sentence.
            memory_bytes: Its peak.
            cpu_us: Its processor time in microseconds.

        Raises:
            MetadataError: It has ended already.
        """
        state = _ending(state)
        with self._database.writing() as session:
            row = session.get(StepRow, step_id)
            if row is None:
                raise UnknownNameError(f"there is no step {step_id}")
            if row.state != RunState.RUNNING:
                raise _illegal("Step", f'"{row.name}" of run {row.run_id}', row.state, state)
            row.state, row.ended_us, row.cache_hit = state, self._clock.now_us(), cache_hit
            row.output_digest, row.exit_reason, row.error = output_digest, exit_reason, error
            row.memory_bytes, row.cpu_us = memory_bytes, cpu_us
            return _step(row)

    def list_steps(self, run_id: str) -> list[Step]:
        """Every attempt at every step of a run, in the order in which they began."""
        with self._database.reading() as session:
            run = self._run_row(session, run_id)
            rows = session.scalars(select(StepRow).where(StepRow.run_id == run.id).order_by(StepRow.id))
            return [_step(row) for row in rows]

    def find_cached_step(self, cache_key: str) -> Step | None:
        """The newest attempt of this project that succeeded with this cache key and left an output."""
        with self._database.reading() as session:
            row = session.scalar(
                select(StepRow)
                .join(RunRow, StepRow.run_id == RunRow.id)
                .where(
                    RunRow.project_id == self._find_project(session),
                    StepRow.cache_key == cache_key,
                    StepRow.state == RunState.SUCCEEDED,
                    StepRow.output_digest.is_not(None),
                )
                .order_by(StepRow.id.desc())
                .limit(1)
            )
            return None if row is None else _step(row)

    def _run_row(self, session: Session, run_id: str) -> RunRow:
        row = session.get(RunRow, run_id)
        project = self._find_project(session)
        if row is not None and row.project_id == project:
            return row
        mine = select(RunRow).where(RunRow.project_id == project).order_by(RunRow.created_us.desc())
        if run_id == "latest":
            found = list(session.scalars(mine.limit(1)))
        else:
            found = list(session.scalars(mine.where(RunRow.id.startswith(run_id, autoescape=True)).limit(2)))
        if len(found) == 1 and run_id:
            return found[0]
        if len(found) > 1:
            raise UnknownNameError(f'more than one run begins with "{run_id}"', hint="Write more of its id.")
        names = session.scalars(mine.limit(50).with_only_columns(RunRow.id))
        raise UnknownNameError(f'there is no run "{run_id}"', hint=nearest(run_id, names, limit=5))

    def _close_steps(self, session: Session, run_id: str, state: RunState, why: str) -> None:
        session.execute(
            update(StepRow)
            .where(StepRow.run_id == run_id, StepRow.state == RunState.RUNNING)
            .values(state=state, ended_us=self._clock.now_us(), exit_reason=why)
        )


def _new_id(now_us: int) -> str:
    stamp = format_time(now_us)[:19].replace("-", "").replace(":", "")
    return f"{stamp}-{secrets.token_hex(5)}"


def _open_steps(run_id: str) -> Any:
    return select(StepRow).where(StepRow.run_id == run_id, StepRow.state == RunState.RUNNING)


def _ending(state: RunState | str) -> RunState:
    names = [member.value for member in RunState if member.ended]
    if state not in names:
        raise MetadataError(f'"{state}" is no way to end', expected=", ".join(names))
    return RunState(state)


def _illegal(kind: str, name: str, now: str, then: str) -> MetadataError:
    return MetadataError(f"is {now} and cannot become {then}", object=f"{kind} {name}")


def _run(row: RunRow) -> Run:
    return to_record(Run, row, state=RunState(row.state))


def _step(row: StepRow) -> Step:
    return to_record(Step, row, state=RunState(row.state))
