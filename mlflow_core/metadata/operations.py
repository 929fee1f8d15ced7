"""What keeps running: materialisations of views, deployments of models, monitors and their alerts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from mlflow_core.errors import MetadataError, UnknownNameError
from mlflow_core.metadata.canonical import canonical, plain, sha256
from mlflow_core.metadata.models import Models
from mlflow_core.metadata.records import Alert, Deployment, Materialisation, Monitor, to_record
from mlflow_core.metadata.tables import (
    AlertRow,
    DeploymentRow,
    MaterialisationRow,
    ModelRow,
    ModelVersionRow,
    MonitorRow,
)

_LIVE: Final = ("starting", "running", "paused", "frozen")
_DEPLOYMENT_MOVES: Final = {
    "starting": ("running", "failed", "stopped", "rolled_back"),
    "running": ("paused", "frozen", "stopped", "rolled_back", "failed"),
    "paused": ("running", "stopped", "rolled_back", "failed"),
    "frozen": ("running", "stopped", "rolled_back", "failed"),
}
_ALERT_MOVES: Final = {
    "open": ("acknowledged", "silenced", "resolved"),
    "acknowledged": ("silenced", "resolved"),
    "silenced": ("open", "acknowledged", "resolved"),
}


class Operations(Models):
    """Materialisations, deployments, monitors and alerts of one project."""

    def record_materialisation(
        self,
        view: str,
        boundary_us: int,
        *,
        rows: int,
        started_us: int,
        ended_us: int | None = None,
        interval: tuple[int | None, int | None] = (None, None),
        nulls: Mapping[str, int] | None = None,
        dropped_keys: int = 0,
        missed: bool = False,
        view_fingerprint: str | None = None,
        run_id: str | None = None,
    ) -> Materialisation:
        """Note one write of a view to the online store.

        Args:
            view: The view.
            boundary_us: The boundary it was computed for.
            rows: Entities written.
            started_us: When the run began.
            ended_us: When it ended; now if None.
            interval: Start and end of what was asked for.
            nulls: Feature -> nulls among the rows.
            dropped_keys: Events left out because a key was null.
            missed: It ended after boundary + delay.
            view_fingerprint: Of the view's definition.
            run_id: The run it belongs to.
        """
        row = MaterialisationRow(
            view=view,
            view_fingerprint=view_fingerprint,
            boundary_us=boundary_us,
            interval_start_us=interval[0],
            interval_end_us=interval[1],
            rows=rows,
            nulls=plain(nulls or {}),
            dropped_keys=dropped_keys,
            missed=missed,
            run_id=run_id,
            principal=self._principal.name,
            started_us=started_us,
            ended_us=self._clock.now_us() if ended_us is None else ended_us,
        )
        with self._database.writing() as session:
            self._must_own(session, run_id=run_id)
            row.project_id = self._project_id(session)
            session.add(row)
            session.flush()
            return to_record(Materialisation, row)

    def list_materialisations(self, view: str | None = None, *, limit: int = 100) -> list[Materialisation]:
        """Writes to the online store, the newest first.

        Args:
            view: Only this one's.
            limit: At most so many.
        """
        with self._database.reading() as session:
            query = select(MaterialisationRow).where(
                MaterialisationRow.project_id == self._find_project(session)
            )
            if view is not None:
                query = query.where(MaterialisationRow.view == view)
            rows = session.scalars(query.order_by(MaterialisationRow.id.desc()).limit(limit))
            return [to_record(Materialisation, row) for row in rows]

    def last_boundary(self, view: str) -> int | None:
        """The greatest boundary that a view was materialised to, in microseconds; None if never."""
        with self._database.reading() as session:
            return session.scalar(
                select(func.max(MaterialisationRow.boundary_us)).where(
                    MaterialisationRow.project_id == self._find_project(session),
                    MaterialisationRow.view == view,
                )
            )

    def start_deployment(
        self, model: str, version: int, target: str, why: str, rollout: Mapping[str, Any] | None = None
    ) -> Deployment:
        """Note that a version begins to answer at a target.

        Raises:
            UnknownNameError: There is no such model or version.
        """
        with self._database.writing() as session:
            parent = self._model_row(session, model, make=False)
            row = DeploymentRow(
                model_id=parent.id,
                version_id=self._version_row(session, parent, version).id,
                target=target,
                state="starting",
                rollout=plain(rollout or {}),
                why=why,
                principal=self._principal.name,
                established=self._principal.established,
                started_us=self._clock.now_us(),
            )
            session.add(row)
            session.flush()
            details = {"version": version, "target": target, "why": why, "rollout": rollout or {}}
            self._note(session, "deploy.start", f"deployment:{row.id}", details)
            return _deployment(session, row)

    def change_deployment(
        self, deployment_id: int, state: str, why: str, *, rollout: Mapping[str, Any] | None = None
    ) -> Deployment:
        """Change a deployment's state, and its rollout where one is given.

        Raises:
            UnknownNameError: There is no such deployment.
            MetadataError: The change is not legal, e.g. out of ``stopped``.
        """
        with self._database.writing() as session:
            row = session.get(DeploymentRow, deployment_id)
            parent = session.get(ModelRow, row.model_id) if row is not None else None
            if row is None or parent is None or parent.project_id != self._find_project(session):
                raise UnknownNameError(f"there is no deployment {deployment_id}")
            _move("Deployment", row, state, _DEPLOYMENT_MOVES)
            if rollout is not None:
                row.rollout = plain(rollout)
            if state not in _LIVE:
                row.ended_us = self._clock.now_us()
            details = {"state": state, "why": why, "rollout": row.rollout}
            self._note(session, "deploy.change", f"deployment:{row.id}", details)
            return _deployment(session, row)

    def list_deployments(self, model: str | None = None, *, live: bool = False) -> list[Deployment]:
        """Deployments, the newest first.

        Args:
            model: Only this one's.
            live: Only those that have not ended.
        """
        with self._database.reading() as session:
            query = (
                select(DeploymentRow)
                .join(ModelRow, DeploymentRow.model_id == ModelRow.id)
                .where(ModelRow.project_id == self._find_project(session))
            )
            if model is not None:
                query = query.where(ModelRow.name == model)
            if live:
                query = query.where(DeploymentRow.state.in_(_LIVE))
            rows = session.scalars(query.order_by(DeploymentRow.id.desc()))
            return [_deployment(session, row) for row in rows]

    def save_monitor(self, name: str, kind: str, spec: Mapping[str, Any], *, enabled: bool = True) -> Monitor:
        """Add a monitor, or change the one of this name; a changed spec forgets the old one's state."""
        fingerprint = sha256(canonical(spec))
        with self._database.writing() as session:
            project = self._project_id(session)
            query = select(MonitorRow).where(MonitorRow.project_id == project, MonitorRow.name == name)
            row = session.scalar(query)
            if row is None:
                row = MonitorRow(
                    project_id=project, name=name, fingerprint="", state={}, created_us=self._clock.now_us()
                )
                session.add(row)
            if row.fingerprint != fingerprint:
                row.state, row.checked_us = {}, None
            row.kind, row.spec, row.fingerprint, row.enabled = kind, plain(spec), fingerprint, enabled
            session.flush()
            return to_record(Monitor, row)

    def note_check(self, monitor: str, state: Mapping[str, Any]) -> Monitor:
        """Keep what a monitor's check left behind.

        Raises:
            UnknownNameError: There is no such monitor.
        """
        with self._database.writing() as session:
            query = select(MonitorRow).where(
                MonitorRow.project_id == self._find_project(session), MonitorRow.name == monitor
            )
            row = session.scalar(query)
            if row is None:
                raise UnknownNameError(f'there is no monitor "{monitor}"')
            row.state, row.checked_us = plain(state), self._clock.now_us()
            return to_record(Monitor, row)

    def open_alert(
        self,
        dedup_key: str,
        title: str,
        *,
        severity: str = "warning",
        monitor_id: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Alert:
        """Open an alert; one of the same key that is not resolved yet is given back as it is."""
        with self._database.writing() as session:
            self._must_own(session, monitor_id=monitor_id)
            project = self._project_id(session)
            query = select(AlertRow).where(
                AlertRow.project_id == project, AlertRow.dedup_key == dedup_key, AlertRow.state != "resolved"
            )
            row = session.scalar(query.limit(1))
            if row is None:
                row = AlertRow(
                    project_id=project,
                    monitor_id=monitor_id,
                    dedup_key=dedup_key,
                    state="open",
                    severity=severity,
                    title=title,
                    details=plain(details or {}),
                    opened_us=self._clock.now_us(),
                )
                session.add(row)
                session.flush()
            return to_record(Alert, row)

    def change_alert(self, alert_id: int, state: str, *, until_us: int | None = None) -> Alert:
        """Acknowledge, silence (until a time) or resolve an alert.

        Raises:
            UnknownNameError: There is no such alert.
            MetadataError: The change is not legal, e.g. out of ``resolved``.
        """
        with self._database.writing() as session:
            row = session.get(AlertRow, alert_id)
            if row is None or row.project_id != self._find_project(session):
                raise UnknownNameError(f"there is no alert {alert_id}")
            _move("Alert", row, state, _ALERT_MOVES)
            now = self._clock.now_us()
            if state == "acknowledged":
                row.acknowledged_us, row.acknowledged_by = now, self._principal.name
            if state == "resolved":
                row.resolved_us = now
            row.silenced_until_us = until_us if state == "silenced" else None
            self._note(session, f"alert.{state}", f"alert:{row.id}", {"until_us": until_us})
            return to_record(Alert, row)

    def list_alerts(self, state: str | None = None, *, limit: int = 100) -> list[Alert]:
        """Alerts, the newest first.

        Args:
            state: Only in this state.
            limit: At most so many.
        """
        with self._database.reading() as session:
            query = select(AlertRow).where(AlertRow.project_id == self._find_project(session))
            if state is not None:
                query = query.where(AlertRow.state == state)
            rows = session.scalars(query.order_by(AlertRow.id.desc()).limit(limit))
            return [to_record(Alert, row) for row in rows]


def _move(kind: str, row: DeploymentRow | AlertRow, state: str, moves: Mapping[str, tuple[str, ...]]) -> None:
    legal = moves.get(row.state, ())
    if state not in legal:
        expected = ", ".join(legal) if legal else "nothing: it has ended"
        raise MetadataError(
            f"is {row.state} and cannot become {state}", object=f"{kind} {row.id}", expected=expected
        )
    row.state = state


def _deployment(session: Session, row: DeploymentRow) -> Deployment:
    version = session.get_one(ModelVersionRow, row.version_id).version
    model = session.get_one(ModelRow, row.model_id).name
    return to_record(Deployment, row, model=model, version=version)
