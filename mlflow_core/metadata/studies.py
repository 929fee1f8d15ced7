"""Searches for good settings: a study and its trials, durable while they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
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
            self._must_own(session, run_id=run_id)
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

    def record_trial(
        self,
        study_id: int,
        number: int,
        params: Mapping[str, Any],
        state: str,
        value: float | None = None,
        *,
        values: Mapping[str, float] | None = None,
        started_us: int,
        ended_us: int,
        run_id: str | None = None,
    ) -> Trial:
        """Note a trial that has ended; noted again, e.g. after its driver was killed, it is replaced.

        Args:
            study_id: ``Study.id``.
            number: Its number in the study, from 0.
            params: Its settings.
            state: ``succeeded``, ``pruned`` or ``failed``.
            value: What it reached.
            values: Intermediate values by step.
            started_us: When it began, microseconds since the epoch, UTC.
            ended_us: When it ended.
            run_id: The run that it belongs to.

        Raises:
            UnknownNameError: There is no such study.
            MetadataError: The state is no way to end.
        """
        if state not in ("succeeded", "pruned", "failed"):
            raise MetadataError(f'"{state}" is no way to end', expected="succeeded, pruned or failed")
        with self._database.writing() as session:
            study = self._study_row(session, study_id)
            self._must_own(session, run_id=run_id)
            mine = select(TrialRow).where(TrialRow.study_id == study.id, TrialRow.number == number)
            row = session.scalar(mine)
            if row is None:
                row = TrialRow(study_id=study.id, number=number)
                session.add(row)
            row.params, row.state, row.value = plain(params), state, value
            row.values, row.run_id = plain(values or {}), run_id
            row.started_us, row.ended_us = started_us, ended_us
            session.flush()
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
