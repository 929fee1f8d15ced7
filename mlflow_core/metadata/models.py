"""Models, their versions, and the aliases that say what a version is for, with every move and its reason.

A version never changes and has no stage. The move of an alias, the evidence of its gate and the audit row
are one transaction, and so is a new version with its first alias: either all are there, or none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from mlflow_core.errors import MetadataError, UnknownNameError, UsageError, nearest
from mlflow_core.metadata.audit import append
from mlflow_core.metadata.canonical import number, plain
from mlflow_core.metadata.records import AliasMove, ModelVersion, to_record
from mlflow_core.metadata.scope import Scope
from mlflow_core.metadata.tables import AliasMoveRow, AliasRow, ModelRow, ModelVersionRow, RunRow

DEFAULT_ALIASES: Final = ("champion", "candidate")
"""What a plain model name means: the first of these that exists, else the latest version."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


class Models(Scope):
    """The models of one project."""

    def register_model_version(
        self,
        model: str,
        run_id: str | None,
        artifact_digest: str,
        metrics: Mapping[str, float] | None = None,
        signature: Mapping[str, Any] | None = None,
        *,
        artifact_uri: str | None = None,
        dataset_id: int | None = None,
        tags: Mapping[str, Any] | None = None,
        alias: str | None = None,
        why: str = "",
        evidence: Mapping[str, Any] | None = None,
        once: bool = False,
    ) -> ModelVersion:
        """Register a trained model under the next number. The same run and artifact again give the same version.

        With an alias, the version and the alias that points at it are one transaction.

        Args:
            model: The model's name; made on first use.
            run_id: The run that trained it; None for one that came from elsewhere.
            artifact_digest: Its folder in the artifact store.
            metrics: What it reached.
            signature: Feature service, features and their fingerprints, inputs and outputs.
            artifact_uri: Where the folder is.
            dataset_id: What it was trained on; the run's dataset if None.
            tags: Anything else.
            alias: Moves to the version; as for :meth:`move_alias`.
            why: The reason of that move.
            evidence: The evidence of that move.
            once: The same artifact with the same tags is the same version too, whichever run it came from.

        Raises:
            UsageError: The name is none that an address like ``name@alias`` can hold, or the move has no reason.
            UnknownNameError: There is no such run or dataset in this project.
        """
        _check_name("a model", model)
        if alias is not None:
            _check_move(model, alias, why)
        with self._database.writing() as session:
            self._must_own(session, dataset_id=dataset_id)
            project = self._project_id(session)
            run = session.get(RunRow, run_id) if run_id is not None else None
            if run_id is not None and (run is None or run.project_id != project):
                raise UnknownNameError(f'there is no run "{run_id}"')
            parent = self._model_row(session, model, make=True)
            query = select(ModelVersionRow).where(
                ModelVersionRow.model_id == parent.id, ModelVersionRow.artifact_digest == artifact_digest
            )
            same = list(session.scalars(query.order_by(ModelVersionRow.version)))
            told = plain(tags or {})
            row = next((one for one in same if one.run_id == run_id or (once and one.tags == told)), None)
            if row is None:
                newest = session.scalar(
                    select(func.max(ModelVersionRow.version)).where(ModelVersionRow.model_id == parent.id)
                )
                row = ModelVersionRow(
                    model_id=parent.id,
                    version=(newest or 0) + 1,
                    run_id=run_id,
                    dataset_id=dataset_id if dataset_id is not None or run is None else run.dataset_id,
                    artifact_digest=artifact_digest,
                    artifact_uri=artifact_uri,
                    signature=plain(signature or {}),
                    metrics=plain(metrics or {}),
                    tags=told,
                    principal=self._principal.name,
                    established=self._principal.established,
                    created_us=self._clock.now_us(),
                )
                session.add(row)
                session.flush()
                details = {"run": run_id, "artifact": artifact_digest, "metrics": metrics or {}}
                self._note(session, "model.register", f"model:{model}:{row.version}", details)
            if alias is not None:
                self._move(session, parent, alias, row.version, why, evidence or {})
            return self._version(session, parent, row)

    def move_alias(
        self,
        model: str,
        alias: str,
        version: int | None,
        why: str,
        evidence: Mapping[str, Any] | None = None,
    ) -> AliasMove:
        """Point an alias at a version, with history and audit, as one transaction.

        Args:
            model: The model.
            alias: ``candidate``, ``champion``, or any name.
            version: The version's number; None takes the alias away.
            why: The reason, in words.
            evidence: The gate's result, the approval, the comparison.

        Returns:
            The move; the last one again where the alias points there already.

        Raises:
            UsageError: The alias is no name, or there is no reason.
            UnknownNameError: There is no such model, version or alias.
        """
        _check_move(model, alias, why)
        with self._database.writing() as session:
            parent = self._model_row(session, model, make=False)
            return self._move(session, parent, alias, version, why, evidence or {})

    def resolve_model(self, reference: str) -> ModelVersion:
        """The version that a text means.

        Args:
            reference: ``name:3``; ``name@alias``; or ``name``: its ``champion``, else its ``candidate``, else
                its latest version.

        Raises:
            UnknownNameError: There is no such model, version or alias.
        """
        name, at, alias = reference.partition("@")
        name, colon, text = (name, "", "") if at else reference.partition(":")
        if colon and not text.isdecimal():
            raise UsageError(f'"{reference}" names no model', expected="name, name:version or name@alias")
        with self._database.reading() as session:
            parent = self._model_row(session, name, make=False)
            if colon:
                return self._version(session, parent, self._version_row(session, parent, int(text)))
            aliases = _aliases(session, parent)
            if at:
                if alias not in aliases:
                    raise UnknownNameError(
                        f'model "{name}" has no alias "{alias}"', hint=nearest(alias, aliases)
                    )
                return self._version(session, parent, self._version_row(session, parent, aliases[alias]))
            latest = session.scalar(
                select(func.max(ModelVersionRow.version)).where(ModelVersionRow.model_id == parent.id)
            )
            chosen = next((aliases[alias] for alias in DEFAULT_ALIASES if alias in aliases), latest)
            return self._version(session, parent, self._version_row(session, parent, chosen or 0))

    def list_models(self) -> list[str]:
        """The names of all models, in order."""
        with self._database.reading() as session:
            query = select(ModelRow.name).where(ModelRow.project_id == self._find_project(session))
            return list(session.scalars(query.order_by(ModelRow.name)))

    def list_versions(self, model: str) -> list[ModelVersion]:
        """The versions of a model, the newest first.

        Raises:
            UnknownNameError: There is no such model.
        """
        with self._database.reading() as session:
            parent = self._model_row(session, model, make=False)
            query = select(ModelVersionRow).where(ModelVersionRow.model_id == parent.id)
            rows = session.scalars(query.order_by(ModelVersionRow.version.desc()))
            return [self._version(session, parent, row) for row in rows]

    def aliases(self, model: str) -> dict[str, int]:
        """Where each alias of a model points now.

        Raises:
            UnknownNameError: There is no such model.
        """
        with self._database.reading() as session:
            return _aliases(session, self._model_row(session, model, make=False))

    def alias_history(self, model: str, alias: str | None = None) -> list[AliasMove]:
        """Every move of a model's aliases, the oldest first.

        Args:
            model: The model.
            alias: Only this one's.

        Raises:
            UnknownNameError: There is no such model.
        """
        with self._database.reading() as session:
            parent = self._model_row(session, model, make=False)
            query = select(AliasMoveRow).where(AliasMoveRow.model_id == parent.id)
            if alias is not None:
                query = query.where(AliasMoveRow.alias == alias)
            rows = session.scalars(query.order_by(AliasMoveRow.id))
            return [to_record(AliasMove, row, model=model) for row in rows]

    def _model_row(self, session: Session, name: str, *, make: bool) -> ModelRow:
        project = self._project_id(session) if make else self._find_project(session)
        mine = select(ModelRow).where(ModelRow.project_id == project)
        row = session.scalar(mine.where(ModelRow.name == name))
        if row is None and make:
            row = ModelRow(project_id=project, name=name, description="", created_us=self._clock.now_us())
            session.add(row)
            session.flush()
        if row is None:
            names = [other.name for other in session.scalars(mine)]
            raise UnknownNameError(f'there is no model "{name}"', hint=nearest(name, names))
        return row

    def _version_row(self, session: Session, parent: ModelRow, version: int) -> ModelVersionRow:
        query = select(ModelVersionRow).where(ModelVersionRow.model_id == parent.id)
        row = session.scalar(query.where(ModelVersionRow.version == version))
        if row is None:
            have = [str(other.version) for other in session.scalars(query)]
            raise UnknownNameError(f'model "{parent.name}" has no version {version}', hint=_known(have))
        return row

    def _version(self, session: Session, parent: ModelRow, row: ModelVersionRow) -> ModelVersion:
        pointing = session.scalars(
            select(AliasRow.alias).where(AliasRow.version_id == row.id).order_by(AliasRow.alias)
        )
        metrics = {name: number(value) for name, value in row.metrics.items()}
        return to_record(ModelVersion, row, model=parent.name, metrics=metrics, aliases=tuple(pointing))

    def _move(
        self,
        session: Session,
        parent: ModelRow,
        alias: str,
        version: int | None,
        why: str,
        evidence: Mapping[str, Any],
    ) -> AliasMove:
        current = session.scalar(
            select(AliasRow).where(AliasRow.model_id == parent.id, AliasRow.alias == alias)
        )
        before = session.get_one(ModelVersionRow, current.version_id).version if current else None
        if version == before:
            return self._unmoved(session, parent, alias, version)
        self._point(session, parent, alias, current, version)
        details = {"from": before, "to": version, "why": why, "evidence": evidence}
        seq = self._note(session, "alias.move", f"model:{parent.name}@{alias}", details)
        row = AliasMoveRow(
            model_id=parent.id,
            alias=alias,
            from_version=before,
            to_version=version,
            why=why,
            evidence=plain(evidence),
            principal=self._principal.name,
            established=self._principal.established,
            moved_us=self._clock.now_us(),
            audit_seq=seq,
        )
        session.add(row)
        session.flush()
        return to_record(AliasMove, row, model=parent.name)

    def _point(
        self, session: Session, parent: ModelRow, alias: str, current: AliasRow | None, version: int | None
    ) -> None:
        if version is None:
            session.delete(current)
            return
        target = self._version_row(session, parent, version)
        if current is None:
            current = AliasRow(model_id=parent.id, alias=alias)
            session.add(current)
        current.version_id, current.moved_us = target.id, self._clock.now_us()

    def _unmoved(self, session: Session, parent: ModelRow, alias: str, version: int | None) -> AliasMove:
        if version is None:
            have = _aliases(session, parent)
            raise UnknownNameError(f'model "{parent.name}" has no alias "{alias}"', hint=nearest(alias, have))
        last = session.scalar(
            select(AliasMoveRow)
            .where(AliasMoveRow.model_id == parent.id, AliasMoveRow.alias == alias)
            .order_by(AliasMoveRow.id.desc())
            .limit(1)
        )
        if last is None:
            raise MetadataError(
                f"{parent.name}@{alias} points to a version but has no history",
                hint="Run: mlcore audit verify",
            )
        return to_record(AliasMove, last, model=parent.name)

    def _note(self, session: Session, action: str, object: str, details: Mapping[str, Any]) -> int:
        return append(session, self._clock, self._principal, self._scope_name, action, object, details).seq


def _aliases(session: Session, parent: ModelRow) -> dict[str, int]:
    query = (
        select(AliasRow.alias, ModelVersionRow.version)
        .join(ModelVersionRow, AliasRow.version_id == ModelVersionRow.id)
        .where(AliasRow.model_id == parent.id)
        .order_by(AliasRow.alias)
    )
    return {alias: version for alias, version in session.execute(query)}  # noqa: C416 rows are no pairs to mypy


def _check_name(kind: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f'"{name}" cannot name {kind}', expected="a letter, then letters, digits, _, . and -"
        )


def _check_move(model: str, alias: str, why: str) -> None:
    _check_name("an alias", alias)
    if not why.strip():
        raise UsageError(f"moving {model}@{alias} needs a reason")


def _known(names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f"It has: {listed}." if listed else "It has none."
