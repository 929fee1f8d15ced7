"""Searches for good settings: a study and its trials, durable while they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from mlflow_core.errors import MetadataError, UnknownNameError, nearest
from mlflow_core.metadata.canonical import plain
from mlflow_core.metadata.records import Study, Trial, to_record
from mlflow_core.metadata.scope import Scope
from mlflow_core.metadata.tables import StudyRow, TrialRow


class Studies(Scope):
    """The studies of one project."""

    def create_study(
        self,
        name: str,
        *,
        metric: str,
        direction: str,
        space: Mapping[str, Any],
        sampler: Mapping[str, Any] | None = None,
        seed: int | None = None,
        run_id: str | None = None,
    ) -> Study:
        """Begin a study, or go on with the one of this name.

        Args:
            name: The study's name.
            metric: What is looked at.
            direction: ``minimize`` or ``maximize``.
            space: Setting -> what it may be.
            sampler: How trials are chosen.
            seed: What randomness began with.
            run_id: The run it belongs to.

        Raises:
            MetadataError: The study of this name has another metric, direction or space.
        """
        if direction not in ("minimize", "maximize"):
            raise MetadataError(f'"{direction}" is no direction', expected="minimize or maximize")
        with self._database.writing() as session:
            project = self._project_id(session)
            query = select(StudyRow).where(StudyRow.project_id == project, StudyRow.name == name)
            row = session.scalar(query)
            asked = (metric, direction, plain(space))
            if row is not None and (row.metric, row.direction, row.space) != asked:
                raise MetadataError(
                    "has another metric, direction or space",
                    object=f'Study "{name}"',
                    hint="Give it a new name.",
                )
            if row is None:
                row = StudyRow(
                    project_id=project,
                    run_id=run_id,
                    name=name,
                    metric=metric,
                    direction=direction,
                    space=plain(space),
                    sampler=plain(sampler or {}),
                    seed=seed,
                    principal=self._principal.name,
                    created_us=self._clock.now_us(),
                )
                session.add(row)
                session.flush()
            return to_record(Study, row)

    def start_trial(self, study_id: int, params: Mapping[str, Any], *, run_id: str | None = None) -> Trial:
        """Begin the next trial; the first has the number 0.

        Raises:
            UnknownNameError: There is no such study.
        """
        with self._database.writing() as session:
            study = self._study_row(session, study_id)
            last = session.scalar(select(func.max(TrialRow.number)).where(TrialRow.study_id == study.id))
            row = TrialRow(
                study_id=study.id,
                number=0 if last is None else last + 1,
                state="running",
                params=plain(params),
                values={},
                run_id=run_id,
                started_us=self._clock.now_us(),
            )
            session.add(row)
            session.flush()
            return to_record(Trial, row)

    def finish_trial(
        self,
        trial_id: int,
        state: str,
        value: float | None = None,
        *,
        values: Mapping[str, float] | None = None,
    ) -> Trial:
        """End a trial.

        Args:
            trial_id: ``Trial.id``.
            state: ``succeeded``, ``pruned`` or ``failed``.
            value: What it reached.
            values: Intermediate values by step.

        Raises:
            MetadataError: It has ended already, or the state is no way to end.
        """
        if state not in ("succeeded", "pruned", "failed"):
            raise MetadataError(f'"{state}" is no way to end', expected="succeeded, pruned or failed")
        with self._database.writing() as session:
            row = session.get(TrialRow, trial_id)
            if row is None:
                raise UnknownNameError(f"there is no trial {trial_id}")
            self._study_row(session, row.study_id)
            if row.state != "running":
                raise MetadataError(f"is {row.state} and cannot become {state}", object=f"Trial {row.number}")
            row.state, row.value, row.ended_us = state, value, self._clock.now_us()
            row.values = plain(values or {})
            return to_record(Trial, row)

    def get_study(self, name: str) -> Study:
        """A study by its name.

        Raises:
            UnknownNameError: There is none.
        """
        with self._database.reading() as session:
            mine = select(StudyRow).where(StudyRow.project_id == self._find_project(session))
            row = session.scalar(mine.where(StudyRow.name == name))
            if row is None:
                names = [other.name for other in session.scalars(mine)]
                raise UnknownNameError(f'there is no study "{name}"', hint=nearest(name, names))
            return to_record(Study, row)

    def list_trials(self, study_id: int) -> list[Trial]:
        """The trials of a study in order of their number."""
        with self._database.reading() as session:
            study = self._study_row(session, study_id)
            rows = session.scalars(
                select(TrialRow).where(TrialRow.study_id == study.id).order_by(TrialRow.number)
            )
            return [to_record(Trial, row) for row in rows]

    def _study_row(self, session: Session, study_id: int) -> StudyRow:
        row = session.get(StudyRow, study_id)
        if row is None or row.project_id != self._find_project(session):
            raise UnknownNameError(f"there is no study {study_id}")
        return row
