"""What is to be started by itself, and when next."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from mlflow_core.metadata.tables.orm import Json, Key, Table


class ScheduleRow(Table):
    """One pipeline that is started by a clock or by what is observed; its lease says who is starting it."""

    __tablename__ = "mlcore_schedules"
    __table_args__ = (UniqueConstraint("project_id", "name"), Index(None, "project_id", "next_us"))

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("mlcore_projects.id"))
    name: Mapped[str]
    pipeline: Mapped[str]
    cron: Mapped[str | None]
    zone: Mapped[str]
    triggers: Mapped[Json]
    seen: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    paused: Mapped[bool]
    next_us: Mapped[int | None]
    last_run: Mapped[str | None] = mapped_column(ForeignKey("mlcore_runs.id"), index=True)
    last_us: Mapped[int | None]
    last_error: Mapped[str | None]
    lease_owner: Mapped[str | None]
    lease_until_us: Mapped[int | None]
    principal: Mapped[str]
    established: Mapped[str]
    created_us: Mapped[int]
    changed_us: Mapped[int]
