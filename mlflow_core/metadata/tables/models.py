"""What may be served: models, their versions, the aliases that point at them with history, deployments."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from mlflow_core.metadata.tables.orm import Json, Key, Table


class ModelRow(Table):
    """A name under which versions of a model are registered."""

    __tablename__ = "mlcore_models"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("mlcore_projects.id"))
    name: Mapped[str]
    description: Mapped[str]
    created_us: Mapped[int]


class ModelVersionRow(Table):
    """One trained model. It has no stage: aliases say what it is for."""

    __tablename__ = "mlcore_model_versions"
    __table_args__ = (
        UniqueConstraint("model_id", "version"),
        UniqueConstraint("model_id", "run_id", "artifact_digest"),
    )

    id: Mapped[Key]
    model_id: Mapped[int] = mapped_column(ForeignKey("mlcore_models.id"))
    version: Mapped[int]
    run_id: Mapped[str | None] = mapped_column(ForeignKey("mlcore_runs.id"), index=True)
    dataset_id: Mapped[int | None] = mapped_column(ForeignKey("mlcore_datasets.id"), index=True)
    artifact_digest: Mapped[str] = mapped_column(index=True)
    artifact_uri: Mapped[str | None]
    signature: Mapped[Json]
    metrics: Mapped[Json]
    tags: Mapped[Json]
    principal: Mapped[str]
    established: Mapped[str]
    created_us: Mapped[int]


class AliasRow(Table):
    """Where an alias points now."""

    __tablename__ = "mlcore_aliases"

    model_id: Mapped[int] = mapped_column(ForeignKey("mlcore_models.id"), primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("mlcore_model_versions.id"), index=True)
    moved_us: Mapped[int]


class AliasMoveRow(Table):
    """One move of an alias: from where to where, who, when, why, on what evidence. Never changed."""

    __tablename__ = "mlcore_alias_moves"
    __table_args__ = (Index(None, "model_id", "alias", "id"),)

    id: Mapped[Key]
    model_id: Mapped[int] = mapped_column(ForeignKey("mlcore_models.id"))
    alias: Mapped[str]
    from_version: Mapped[int | None]
    to_version: Mapped[int | None]
    why: Mapped[str]
    evidence: Mapped[Json]
    principal: Mapped[str]
    established: Mapped[str]
    moved_us: Mapped[int]
    audit_seq: Mapped[int] = mapped_column(ForeignKey("mlcore_audit.seq"), index=True)


class DeploymentRow(Table):
    """A model version that answers, or answered, somewhere."""

    __tablename__ = "mlcore_deployments"
    __table_args__ = (
        CheckConstraint(
            "state IN ('starting', 'running', 'paused', 'frozen', 'rolled_back', 'stopped', 'failed')",
            name="state",
        ),
        Index(None, "model_id", "target", "state"),
    )

    id: Mapped[Key]
    model_id: Mapped[int] = mapped_column(ForeignKey("mlcore_models.id"))
    version_id: Mapped[int] = mapped_column(ForeignKey("mlcore_model_versions.id"), index=True)
    target: Mapped[str]
    state: Mapped[str]
    rollout: Mapped[Json]
    why: Mapped[str]
    principal: Mapped[str]
    established: Mapped[str]
    started_us: Mapped[int]
    ended_us: Mapped[int | None]
