"""Steps of runs: each attempt with how it ended, what it left, and the key by which its output is found again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select

from mlflow_core.errors import MetadataError
from mlflow_core.metadata.canonical import plain
from mlflow_core.metadata.records import RunState, Step, to_record
from mlflow_core.metadata.runs import Runs, ending, illegal
from mlflow_core.metadata.tables import RunRow, StepRow


class Steps(Runs):
    """Steps of one project's runs."""

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
        worker: str | None = None,
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
            worker: Where it ran, where that was not known before.

        Raises:
            UnknownNameError: There is no such step in this project.
            MetadataError: It has ended already.
        """
        state = ending(state)
        with self._database.writing() as session:
            self._must_own(session, step_id=step_id)
            row = session.get_one(StepRow, step_id)
            if row.state != RunState.RUNNING:
                raise illegal("Step", f'"{row.name}" of run {row.run_id}', row.state, state)
            row.state, row.ended_us, row.cache_hit = state, self._clock.now_us(), cache_hit
            row.output_digest, row.exit_reason, row.error = output_digest, exit_reason, error
            row.memory_bytes, row.cpu_us, row.worker = memory_bytes, cpu_us, worker or row.worker
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

    def origin_of_output(self, step_id: int) -> str | None:
        """The run that computed the output which an attempt at a step found.

        Args:
            step_id: ``Step.id``.

        Returns:
            The run's id; None where the attempt found nothing, or what computed it is not of this project.
        """
        with self._database.reading() as session:
            self._must_own(session, step_id=step_id)
            row = session.get_one(StepRow, step_id)
            if not row.cache_hit:
                return None
            return session.scalar(
                select(StepRow.run_id)
                .join(RunRow, StepRow.run_id == RunRow.id)
                .where(
                    RunRow.project_id == self._find_project(session),
                    StepRow.cache_key == row.cache_key,
                    StepRow.output_digest == row.output_digest,
                    StepRow.cache_hit.is_(False),
                    StepRow.id < row.id,
                )
                .order_by(StepRow.id.desc())
                .limit(1)
            )


def _step(row: StepRow) -> Step:
    return to_record(Step, row, state=RunState(row.state))
