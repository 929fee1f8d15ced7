"""Which specs were in force when, and by whom; every version of every spec is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from mlflow_core.errors import UnknownNameError
from mlflow_core.metadata.audit import append
from mlflow_core.metadata.canonical import canonical, plain, sha256
from mlflow_core.metadata.records import Apply, SpecVersion, to_record
from mlflow_core.metadata.scope import Scope
from mlflow_core.metadata.tables import ApplyRow, ApplySpecRow, SpecRow


class Applies(Scope):
    """The declarations of one project."""

    def record_apply(
        self,
        specs: Iterable[SpecVersion],
        *,
        changes: Mapping[str, Any] | None = None,
        code: Mapping[str, Any] | None = None,
    ) -> Apply:
        """Put a set of specs in force. The set that is in force already changes nothing.

        Args:
            specs: Every spec of the project, whole.
            changes: What the plan said about the difference.
            code: Commit, hashes.

        Returns:
            The new apply, or the last one where the set is the same.
        """
        wanted = {(spec.kind, spec.name): spec for spec in specs}
        fingerprint = sha256(canonical(sorted([*key, spec.fingerprint] for key, spec in wanted.items())))
        with self._database.writing() as session:
            project = self._project_id(session)
            last = session.scalar(_newest(project))
            if last is not None and last.fingerprint == fingerprint:
                return to_record(Apply, last)
            now = self._clock.now_us()
            row = ApplyRow(
                project_id=project,
                fingerprint=fingerprint,
                changes=plain(changes or {}),
                code=plain(code or {}),
                principal=self._principal.name,
                established=self._principal.established,
                applied_us=now,
            )
            session.add(row)
            session.flush()
            for spec in wanted.values():
                spec_id = self._spec_id(session, project, spec, now)
                session.add(ApplySpecRow(apply_id=row.id, spec_id=spec_id))
            details = {"fingerprint": fingerprint, "specs": len(wanted), "changes": changes or {}}
            append(
                session, self._clock, self._principal, self._scope_name, "apply", f"apply:{row.id}", details
            )
            return to_record(Apply, row)

    def last_apply(self) -> Apply | None:
        """What is in force, or None where nothing was ever applied."""
        with self._database.reading() as session:
            row = session.scalar(_newest(self._find_project(session)))
            return None if row is None else to_record(Apply, row)

    def list_applies(self, *, limit: int = 100) -> list[Apply]:
        """Applies, the newest first."""
        with self._database.reading() as session:
            query = select(ApplyRow).where(ApplyRow.project_id == self._find_project(session))
            rows = session.scalars(query.order_by(ApplyRow.id.desc()).limit(limit))
            return [to_record(Apply, row) for row in rows]

    def specs_of(self, apply_id: int) -> list[SpecVersion]:
        """The specs that an apply put in force, by kind and name.

        Raises:
            UnknownNameError: There is no such apply in this project.
        """
        with self._database.reading() as session:
            apply = session.get(ApplyRow, apply_id)
            if apply is None or apply.project_id != self._find_project(session):
                raise UnknownNameError(f"there is no apply {apply_id}")
            query = (
                select(SpecRow)
                .join(ApplySpecRow, ApplySpecRow.spec_id == SpecRow.id)
                .where(ApplySpecRow.apply_id == apply_id)
                .order_by(SpecRow.kind, SpecRow.name)
            )
            return [to_record(SpecVersion, row) for row in session.scalars(query)]

    def spec_versions(self, kind: str, name: str) -> list[SpecVersion]:
        """Every version of a spec that was ever applied, in the order of its first use."""
        with self._database.reading() as session:
            query = select(SpecRow).where(
                SpecRow.project_id == self._find_project(session), SpecRow.kind == kind, SpecRow.name == name
            )
            return [to_record(SpecVersion, row) for row in session.scalars(query.order_by(SpecRow.id))]

    def _spec_id(self, session: Session, project: int, spec: SpecVersion, now_us: int) -> int:
        query = select(SpecRow.id).where(
            SpecRow.project_id == project,
            SpecRow.kind == spec.kind,
            SpecRow.name == spec.name,
            SpecRow.fingerprint == spec.fingerprint,
        )
        found = session.scalar(query)
        if found is not None:
            return found
        row = SpecRow(
            project_id=project,
            kind=spec.kind,
            name=spec.name,
            fingerprint=spec.fingerprint,
            content=spec.content,
            first_applied_us=now_us,
        )
        session.add(row)
        session.flush()
        return row.id


def _newest(project: int | None) -> Any:
    return select(ApplyRow).where(ApplyRow.project_id == project).order_by(ApplyRow.id.desc()).limit(1)
