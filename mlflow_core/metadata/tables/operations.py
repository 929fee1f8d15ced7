"""What keeps running: materialisations, monitors, alerts, and the audit log with its hash chain."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from mlflow_core.metadata.tables.orm import Json, Key, Table


class MaterialisationRow(Table):
    """One write of a view to the online store."""

    __tablename__ = "mlcore_materialisations"
    __table_args__ = (Index(None, "project_id", "view", "boundary_us"),)

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("mlcore_projects.id"))
    view: Mapped[str]
    view_fingerprint: Mapped[str | None]
    boundary_us: Mapped[int]
    interval_start_us: Mapped[int | None]
    interval_end_us: Mapped[int | None]
    rows: Mapped[int]
    nulls: Mapped[Json]
    dropped_keys: Mapped[int]
    missed: Mapped[bool]
    run_id: Mapped[str | None] = mapped_column(ForeignKey("mlcore_runs.id"), index=True)
    principal: Mapped[str]
    started_us: Mapped[int]
    ended_us: Mapped[int]


class MonitorRow(Table):
    """Something that is watched."""

    __tablename__ = "mlcore_monitors"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("mlcore_projects.id"))
    name: Mapped[str]
    kind: Mapped[str]
    spec: Mapped[Json]
    fingerprint: Mapped[str]
    state: Mapped[Json]
    enabled: Mapped[bool]
    created_us: Mapped[int]
    checked_us: Mapped[int | None]


class AlertRow(Table):
    """Something that a monitor found."""

    __tablename__ = "mlcore_alerts"
    __table_args__ = (
        CheckConstraint("state IN ('open', 'acknowledged', 'silenced', 'resolved')", name="state"),
        Index(None, "project_id", "state", "opened_us"),
        Index(None, "project_id", "dedup_key"),
    )

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("mlcore_projects.id"))
    monitor_id: Mapped[int | None] = mapped_column(ForeignKey("mlcore_monitors.id"), index=True)
    dedup_key: Mapped[str]
    state: Mapped[str]
    severity: Mapped[str]
    title: Mapped[str]
    details: Mapped[Json]
    opened_us: Mapped[int]
    acknowledged_us: Mapped[int | None]
    acknowledged_by: Mapped[str | None]
    silenced_until_us: Mapped[int | None]
    resolved_us: Mapped[int | None]


class AuditRow(Table):
    """One change by one principal. The hash covers the row and the hash before it."""

    __tablename__ = "mlcore_audit"
    __table_args__ = (Index(None, "project", "at_us"), Index(None, "object"))

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at_us: Mapped[int]
    principal: Mapped[str]
    established: Mapped[str]
    project: Mapped[str]
    action: Mapped[str]
    object: Mapped[str]
    details: Mapped[str]
    prev_hash: Mapped[str]
    hash: Mapped[str] = mapped_column(unique=True)


class AuditHeadRow(Table):
    """The last row of the chain: where the next one goes, and how a missing end is noticed."""

    __tablename__ = "mlcore_audit_head"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seq: Mapped[int]
    hash: Mapped[str]
