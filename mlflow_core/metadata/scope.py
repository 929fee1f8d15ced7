"""Where a store's methods act: one database, one clock, one principal, one project."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from mlflow_core.config.clock import Clock
from mlflow_core.config.principal import Principal
from mlflow_core.metadata.database import Database
from mlflow_core.metadata.tables import NamespaceRow, ProjectRow


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

    @property
    def _scope_name(self) -> str:
        return f"{self._namespace}/{self._project}"

    def _find_project(self, session: Session) -> int | None:
        return session.scalar(
            select(ProjectRow.id)
            .join(NamespaceRow, ProjectRow.namespace_id == NamespaceRow.id)
            .where(NamespaceRow.name == self._namespace, ProjectRow.name == self._project)
        )

    def _project_id(self, session: Session) -> int:
        """The project's number, made on the first write: reading must work where writing does not."""
        found = self._find_project(session)
        if found is not None:
            return found
        now = self._clock.now_us()
        namespace = session.scalar(select(NamespaceRow).where(NamespaceRow.name == self._namespace))
        if namespace is None:
            namespace = NamespaceRow(name=self._namespace, created_us=now)
            session.add(namespace)
            session.flush()
        project = ProjectRow(namespace_id=namespace.id, name=self._project, created_us=now)
        session.add(project)
        session.flush()
        return project.id
