"""Where a store's methods act: one database, one clock, one principal, one project."""

from __future__ import annotations

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import Session

from mlflow_core.config.clock import Clock
from mlflow_core.config.principal import Principal
from mlflow_core.errors import UnknownNameError
from mlflow_core.metadata.database import Database
from mlflow_core.metadata.tables import DatasetRow, MonitorRow, NamespaceRow, ProjectRow, RunRow, StepRow


class Scope:
    """The part that every group of methods shares.

    Args:
        database: An open database with current tables.
        clock: Says when things happen.
        principal: Who does them.
        namespace: The team.
        project: The project.
    """

    def __init__(
        self, database: Database, clock: Clock, principal: Principal, namespace: str, project: str
    ) -> None:
        self._database = database
        self._clock = clock
        self._principal = principal
        self._namespace = namespace
        self._project = project
        self._project_number: int | None = None

    @property
    def _scope_name(self) -> str:
        return f"{self._namespace}/{self._project}"

    def _find_project(self, session: Session | Connection) -> int | None:
        if self._project_number is not None:
            return self._project_number
        found: int | None = session.scalar(
            select(ProjectRow.id)
            .join(NamespaceRow, ProjectRow.namespace_id == NamespaceRow.id)
            .where(NamespaceRow.name == self._namespace, ProjectRow.name == self._project)
        )
        return found

    def _known_project(self) -> int | None:
        """The project's number, looked up once: nobody takes a project away."""
        if self._project_number is None:
            # In a transaction of its own: what an open one has made may still be undone.
            with self._database.reading() as session:
                self._project_number = self._find_project(session)
        return self._project_number

    def _must_own(
        self,
        session: Session | Connection,
        *,
        run_id: str | None = None,
        dataset_id: int | None = None,
        step_id: int | None = None,
        monitor_id: int | None = None,
    ) -> None:
        """Refuse to refer to what is not there or another project's: foreign keys alone know no projects."""
        mine = self._find_project(session)
        for kind, table, key in (
            ("run", RunRow, run_id),
            ("dataset", DatasetRow, dataset_id),
            ("monitor", MonitorRow, monitor_id),
        ):
            if key is not None and not session.scalar(
                select(func.count()).where(table.id == key, table.project_id == mine)
            ):
                raise UnknownNameError(f"there is no {kind} {key}")
        if step_id is not None:
            of_step = select(RunRow.project_id).join(StepRow, StepRow.run_id == RunRow.id)
            if mine is None or session.scalar(of_step.where(StepRow.id == step_id)) != mine:
                raise UnknownNameError(f"there is no step {step_id}")

    def _project_id(self, session: Session) -> int:
        """The project's number, made on the first write: reading must work where writing does not."""
        found = self._find_project(session)
        if found is not None:
            return found
        project = ProjectRow(
            namespace_id=self._namespace_id(session), name=self._project, created_us=self._clock.now_us()
        )
        session.add(project)
        session.flush()
        return project.id

    def _namespace_id(self, session: Session) -> int:
        row = session.scalar(select(NamespaceRow).where(NamespaceRow.name == self._namespace))
        if row is None:
            row = NamespaceRow(name=self._namespace, created_us=self._clock.now_us())
            session.add(row)
            session.flush()
        return row.id
