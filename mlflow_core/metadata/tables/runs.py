"""What was computed: datasets, runs, their steps, params, metrics and artifacts, studies and trials."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from mlflow_core.metadata.tables.orm import Json, Key, Table

_RUN_STATES = "state IN ('pending', 'running', 'succeeded', 'failed', 'crashed', 'cancelled')"


class DatasetRow(Table):
    """A training or evaluation set, named by its content."""

    __tablename__ = "mlcore_datasets"
    __table_args__ = (UniqueConstraint("project_id", "name", "content_hash"),)

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("mlcore_projects.id"))
    name: Mapped[str]
    content_hash: Mapped[str]
    artifact_digest: Mapped[str | None] = mapped_column(index=True)
    uri: Mapped[str | None]
    schema: Mapped[Json]
    rows: Mapped[Json]
    split: Mapped[Json]
    clock: Mapped[str]
    source_snapshot: Mapped[Json]
    spec_fingerprint: Mapped[str | None] = mapped_column(index=True)
    report: Mapped[Json]
    principal: Mapped[str]
    created_us: Mapped[int]
    removed_us: Mapped[int | None]
    removed_why: Mapped[str | None]


class RunRow(Table):
    """One execution of a pipeline."""

    __tablename__ = "mlcore_runs"
    __table_args__ = (
        CheckConstraint(_RUN_STATES, name="state"),
        Index(None, "project_id", "created_us"),
        Index(None, "project_id", "pipeline", "created_us"),
        Index(None, "project_id", "state"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("mlcore_projects.id"))
    pipeline: Mapped[str]
    kind: Mapped[str]
    state: Mapped[str]
    pipeline_fingerprint: Mapped[str | None] = mapped_column(index=True)
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("mlcore_runs.id"), index=True)
    dataset_id: Mapped[int | None] = mapped_column(ForeignKey("mlcore_datasets.id"), index=True)
    principal: Mapped[str]
    established: Mapped[str]
    seed: Mapped[int | None]
    code: Mapped[Json]
    environment: Mapped[Json]
    tags: Mapped[Json]
    error: Mapped[str | None]
    lease_owner: Mapped[str | None]
    lease_until_us: Mapped[int | None]
    cancel_requested_us: Mapped[int | None]
    cancel_requested_by: Mapped[str | None]
    created_us: Mapped[int]
    started_us: Mapped[int | None]
    ended_us: Mapped[int | None]


class StepRow(Table):
    """One attempt at one step of a run."""

    __tablename__ = "mlcore_steps"
    __table_args__ = (
        CheckConstraint(_RUN_STATES, name="state"),
        UniqueConstraint("run_id", "name", "attempt"),
        Index(None, "cache_key"),
    )

    id: Mapped[Key]
    run_id: Mapped[str] = mapped_column(ForeignKey("mlcore_runs.id"))
    name: Mapped[str]
    attempt: Mapped[int]
    state: Mapped[str]
    started_us: Mapped[int]
    ended_us: Mapped[int | None]
    worker: Mapped[str | None]
    memory_bytes: Mapped[int | None]
    cpu_us: Mapped[int | None]
    exit_reason: Mapped[str | None]
    error: Mapped[str | None]
    cache_key: Mapped[str | None]
    cache_parts: Mapped[Json]
    cache_hit: Mapped[bool]
    output_digest: Mapped[str | None] = mapped_column(index=True)


class ParamRow(Table):
    """One setting of a run, as canonical JSON."""

    __tablename__ = "mlcore_params"
    __table_args__ = ({"sqlite_with_rowid": False},)

    run_id: Mapped[str] = mapped_column(ForeignKey("mlcore_runs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class MetricRow(Table):
    """One value of one metric at one step, with its interval where there is one. NaN is null on SQLite."""

    __tablename__ = "mlcore_metrics"
    __table_args__ = ({"sqlite_with_rowid": False},)

    run_id: Mapped[str] = mapped_column(ForeignKey("mlcore_runs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    at_us: Mapped[int]


class LatestMetricRow(Table):
    """The last step of a metric of a run: what lists show, and what runs are found and ordered by."""

    __tablename__ = "mlcore_latest_metrics"
    __table_args__ = (Index(None, "name", "value"), {"sqlite_with_rowid": False})

    run_id: Mapped[str] = mapped_column(ForeignKey("mlcore_runs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int]
    value: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    at_us: Mapped[int]


class ArtifactRow(Table):
    """A file or folder that a run left, in the artifact store."""

    __tablename__ = "mlcore_artifacts"
    __table_args__ = (UniqueConstraint("run_id", "name"),)

    id: Mapped[Key]
    run_id: Mapped[str] = mapped_column(ForeignKey("mlcore_runs.id"))
    step_id: Mapped[int | None] = mapped_column(ForeignKey("mlcore_steps.id"), index=True)
    name: Mapped[str]
    uri: Mapped[str]
    digest: Mapped[str] = mapped_column(index=True)
    size: Mapped[int]
    media_type: Mapped[str]
    created_us: Mapped[int]


class StudyRow(Table):
    """A search for good settings."""

    __tablename__ = "mlcore_studies"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("mlcore_projects.id"))
    run_id: Mapped[str | None] = mapped_column(ForeignKey("mlcore_runs.id"), index=True)
    name: Mapped[str]
    metric: Mapped[str]
    direction: Mapped[str]
    space: Mapped[Json]
    sampler: Mapped[Json]
    seed: Mapped[int | None]
    principal: Mapped[str]
    created_us: Mapped[int]


class TrialRow(Table):
    """One try of a study."""

    __tablename__ = "mlcore_trials"
    __table_args__ = (
        CheckConstraint("state IN ('running', 'succeeded', 'pruned', 'failed')", name="state"),
        UniqueConstraint("study_id", "number"),
    )

    id: Mapped[Key]
    study_id: Mapped[int] = mapped_column(ForeignKey("mlcore_studies.id"))
    number: Mapped[int]
    state: Mapped[str]
    params: Mapped[Json]
    values: Mapped[Json]
    value: Mapped[float | None]
    run_id: Mapped[str | None] = mapped_column(ForeignKey("mlcore_runs.id"), index=True)
    started_us: Mapped[int]
    ended_us: Mapped[int | None]
