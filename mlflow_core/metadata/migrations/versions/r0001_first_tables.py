"""The first tables. Written out, so that later changes of the models do not change this revision."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision: str | None = None
branch_labels = depends_on = None
INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TEXT = sa.String()
RUN_STATES = "state IN ('pending', 'running', 'succeeded', 'failed', 'crashed', 'cancelled')"
TABLES = (
    "namespaces projects specs applies apply_specs audit audit_head datasets runs steps params metrics "
    "artifacts studies trials models model_versions aliases alias_moves deployments materialisations monitors alerts"
)

INDEXES = {
    "applies": "project_id,applied_us",
    "apply_specs": "spec_id",
    "audit": "object project,at_us",
    "datasets": "artifact_digest spec_fingerprint",
    "runs": "dataset_id parent_id pipeline_fingerprint project_id,created_us project_id,state",
    "steps": "cache_key output_digest",
    "metrics": "name,value",
    "artifacts": "digest step_id",
    "studies": "run_id",
    "trials": "run_id",
    "model_versions": "artifact_digest dataset_id run_id",
    "aliases": "version_id",
    "alias_moves": "audit_seq",
    "deployments": "version_id",
    "materialisations": "run_id",
    "alerts": "monitor_id project_id,dedup_key",
}


def upgrade() -> None:
    """Create every table and start the audit chain."""
    _declared()
    _audit()
    _runs()
    _models()
    _operations()
    for table, indexes in INDEXES.items():
        for columns in indexes.split():
            names = columns.split(",")
            op.create_index(f"ix_mlcore_{table}_{'_'.join(names)}", f"mlcore_{table}", names)


def downgrade() -> None:
    """Drop every table."""
    for table in reversed(TABLES.split()):
        op.drop_table(f"mlcore_{table}")


def _columns(kind: Any, names: str, *, nullable: bool = False) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=nullable) for name in names.split()]


def _maybe(kind: Any, names: str) -> list[sa.Column[Any]]:
    return _columns(kind, names, nullable=True)


def _declared() -> None:
    op.create_table(
        "mlcore_namespaces",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        *_columns(TEXT, "name"),
        *_columns(INTEGER, "created_us"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "mlcore_projects",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        *_columns(INTEGER, "namespace_id"),
        *_columns(TEXT, "name"),
        *_columns(INTEGER, "created_us"),
        sa.ForeignKeyConstraint(["namespace_id"], ["mlcore_namespaces.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("namespace_id", "name"),
    )
    op.create_table(
        "mlcore_specs",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        *_columns(INTEGER, "project_id"),
        *_columns(TEXT, "kind name fingerprint content"),
        *_columns(INTEGER, "first_applied_us"),
        sa.ForeignKeyConstraint(["project_id"], ["mlcore_projects.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "kind", "name", "fingerprint"),
    )
    op.create_table(
        "mlcore_applies",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        *_columns(INTEGER, "project_id"),
        *_columns(TEXT, "fingerprint"),
        *_columns(JSON, "changes code"),
        *_columns(TEXT, "principal established"),
        *_columns(INTEGER, "applied_us"),
        sa.ForeignKeyConstraint(["project_id"], ["mlcore_projects.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "mlcore_apply_specs",
        *_columns(INTEGER, "apply_id spec_id"),
        sa.ForeignKeyConstraint(["apply_id"], ["mlcore_applies.id"]),
        sa.ForeignKeyConstraint(["spec_id"], ["mlcore_specs.id"]),
        sa.PrimaryKeyConstraint("apply_id", "spec_id"),
    )


def _audit() -> None:
    op.create_table(
        "mlcore_audit",
        sa.Column("seq", INTEGER, autoincrement=False, nullable=False),
        *_columns(INTEGER, "at_us"),
        *_columns(TEXT, "principal established project action object details prev_hash hash"),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("hash"),
    )
    op.create_table(
        "mlcore_audit_head",
        sa.Column("id", INTEGER, autoincrement=False, nullable=False),
        *_columns(INTEGER, "seq"),
        *_columns(TEXT, "hash"),
        sa.CheckConstraint("id = 1", name="single"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute(sa.text("INSERT INTO mlcore_audit_head (id, seq, hash) VALUES (1, 0, '')"))


def _runs() -> None:
    op.create_table(
        "mlcore_datasets",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        *_columns(INTEGER, "project_id"),
        *_columns(TEXT, "name content_hash"),
        *_maybe(TEXT, "artifact_digest uri"),
        *_columns(JSON, "schema rows split"),
        *_columns(TEXT, "clock"),
        *_columns(JSON, "source_snapshot"),
        *_maybe(TEXT, "spec_fingerprint"),
        *_columns(JSON, "report"),
        *_columns(TEXT, "principal"),
        *_columns(INTEGER, "created_us"),
        sa.ForeignKeyConstraint(["project_id"], ["mlcore_projects.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "name", "content_hash"),
    )
    op.create_table(
        "mlcore_runs",
        *_columns(TEXT, "id"),
        *_columns(INTEGER, "project_id"),
        *_columns(TEXT, "pipeline kind state"),
        *_maybe(TEXT, "pipeline_fingerprint parent_id"),
        *_maybe(INTEGER, "dataset_id"),
        *_columns(TEXT, "principal established"),
        *_maybe(INTEGER, "seed"),
        *_columns(JSON, "code environment tags"),
        *_maybe(TEXT, "error lease_owner"),
        *_maybe(INTEGER, "lease_until_us"),
        *_columns(INTEGER, "created_us"),
        *_maybe(INTEGER, "started_us ended_us"),
        sa.CheckConstraint(RUN_STATES, name="state"),
        sa.ForeignKeyConstraint(["dataset_id"], ["mlcore_datasets.id"]),
        sa.ForeignKeyConstraint(["parent_id"], ["mlcore_runs.id"]),
        sa.ForeignKeyConstraint(["project_id"], ["mlcore_projects.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_mlcore_runs_project_id_pipeline_created_us",
        "mlcore_runs",
        ["project_id", "pipeline", "created_us"],
    )
    op.create_table(
        "mlcore_steps",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        *_columns(TEXT, "run_id name"),
        *_columns(INTEGER, "attempt"),
        *_columns(TEXT, "state"),
        *_columns(INTEGER, "started_us"),
        *_maybe(INTEGER, "ended_us"),
        *_maybe(TEXT, "worker"),
        *_maybe(INTEGER, "memory_bytes cpu_us"),
        *_maybe(TEXT, "exit_reason error cache_key"),
        *_columns(JSON, "cache_parts"),
        *_columns(sa.Boolean(), "cache_hit"),
        *_maybe(TEXT, "output_digest"),
        sa.CheckConstraint(RUN_STATES, name="state"),
        sa.ForeignKeyConstraint(["run_id"], ["mlcore_runs.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run_id", "name", "attempt"),
    )
    op.create_table(
        "mlcore_params",
        *_columns(TEXT, "run_id name value"),
        sa.ForeignKeyConstraint(["run_id"], ["mlcore_runs.id"]),
        sa.PrimaryKeyConstraint("run_id", "name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "mlcore_metrics",
        *_columns(TEXT, "run_id name"),
        sa.Column("step", INTEGER, autoincrement=False, nullable=False),
        *_maybe(sa.Double(), "value low high"),
        *_columns(INTEGER, "at_us"),
        sa.ForeignKeyConstraint(["run_id"], ["mlcore_runs.id"]),
        sa.PrimaryKeyConstraint("run_id", "name", "step"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "mlcore_artifacts",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        *_columns(TEXT, "run_id"),
        *_maybe(INTEGER, "step_id"),
        *_columns(TEXT, "name uri digest"),
        *_columns(INTEGER, "size"),
        *_columns(TEXT, "media_type"),
        *_columns(INTEGER, "created_us"),
        sa.ForeignKeyConstraint(["run_id"], ["mlcore_runs.id"]),
        sa.ForeignKeyConstraint(["step_id"], ["mlcore_steps.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run_id", "name"),
    )
    op.create_table(
        "mlcore_studies",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        *_columns(INTEGER, "project_id"),
        *_maybe(TEXT, "run_id"),
        *_columns(TEXT, "name metric direction"),
        *_columns(JSON, "space sampler"),
        *_maybe(INTEGER, "seed"),
        *_columns(TEXT, "principal"),
        *_columns(INTEGER, "created_us"),
        sa.ForeignKeyConstraint(["project_id"], ["mlcore_projects.id"]),
        sa.ForeignKeyConstraint(["run_id"], ["mlcore_runs.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "name"),
    )
    op.create_table(
        "mlcore_trials",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        *_columns(INTEGER, "study_id number"),
        *_columns(TEXT, "state"),
        *_columns(JSON, "params values"),
        *_maybe(sa.Double(), "value"),
        *_maybe(TEXT, "run_id"),
        *_columns(INTEGER, "started_us"),
        *_maybe(INTEGER, "ended_us"),
        sa.CheckConstraint("state IN ('running', 'succeeded', 'pruned', 'failed')", name="state"),
        sa.ForeignKeyConstraint(["run_id"], ["mlcore_runs.id"]),
        sa.ForeignKeyConstraint(["study_id"], ["mlcore_studies.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("study_id", "number"),
    )


def _models() -> None:
    op.create_table(
        "mlcore_models",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        *_columns(INTEGER, "project_id"),
        *_columns(TEXT, "name description"),
        *_columns(INTEGER, "created_us"),
        sa.ForeignKeyConstraint(["project_id"], ["mlcore_projects.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "name"),
    )
    op.create_table(
        "mlcore_model_versions",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        *_columns(INTEGER, "model_id version"),
        *_maybe(TEXT, "run_id"),
        *_maybe(INTEGER, "dataset_id"),
        *_columns(TEXT, "artifact_digest"),
        *_maybe(TEXT, "artifact_uri"),
        *_columns(JSON, "signature metrics tags"),
        *_columns(TEXT, "principal established"),
        *_columns(INTEGER, "created_us"),
        sa.ForeignKeyConstraint(["dataset_id"], ["mlcore_datasets.id"]),
        sa.ForeignKeyConstraint(["model_id"], ["mlcore_models.id"]),
        sa.ForeignKeyConstraint(["run_id"], ["mlcore_runs.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("model_id", "run_id", "artifact_digest"),
        sa.UniqueConstraint("model_id", "version"),
    )
    op.create_table(
        "mlcore_aliases",
        *_columns(INTEGER, "model_id"),
        *_columns(TEXT, "alias"),
        *_columns(INTEGER, "version_id moved_us"),
        sa.ForeignKeyConstraint(["model_id"], ["mlcore_models.id"]),
        sa.ForeignKeyConstraint(["version_id"], ["mlcore_model_versions.id"]),
        sa.PrimaryKeyConstraint("model_id", "alias"),
    )
    op.create_table(
        "mlcore_alias_moves",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        *_columns(INTEGER, "model_id"),
        *_columns(TEXT, "alias"),
        *_maybe(INTEGER, "from_version to_version"),
        *_columns(TEXT, "why"),
        *_columns(JSON, "evidence"),
        *_columns(TEXT, "principal established"),
        *_columns(INTEGER, "moved_us audit_seq"),
        sa.ForeignKeyConstraint(["audit_seq"], ["mlcore_audit.seq"]),
        sa.ForeignKeyConstraint(["model_id"], ["mlcore_models.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_mlcore_alias_moves_model_id_alias_id", "mlcore_alias_moves", ["model_id", "alias", "id"]
    )
    op.create_table(
        "mlcore_deployments",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        *_columns(INTEGER, "model_id version_id"),
        *_columns(TEXT, "target state"),
        *_columns(JSON, "rollout"),
        *_columns(TEXT, "why principal established"),
        *_columns(INTEGER, "started_us"),
        *_maybe(INTEGER, "ended_us"),
        sa.CheckConstraint(
            "state IN ('starting', 'running', 'paused', 'frozen', 'rolled_back', 'stopped', 'failed')",
            name="state",
        ),
        sa.ForeignKeyConstraint(["model_id"], ["mlcore_models.id"]),
        sa.ForeignKeyConstraint(["version_id"], ["mlcore_model_versions.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_mlcore_deployments_model_id_target_state", "mlcore_deployments", ["model_id", "target", "state"]
    )


def _operations() -> None:
    op.create_table(
        "mlcore_materialisations",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        *_columns(INTEGER, "project_id"),
        *_columns(TEXT, "view"),
        *_maybe(TEXT, "view_fingerprint"),
        *_columns(INTEGER, "boundary_us"),
        *_maybe(INTEGER, "interval_start_us interval_end_us"),
        *_columns(INTEGER, "rows"),
        *_columns(JSON, "nulls"),
        *_columns(INTEGER, "dropped_keys"),
        *_columns(sa.Boolean(), "missed"),
        *_maybe(TEXT, "run_id"),
        *_columns(TEXT, "principal"),
        *_columns(INTEGER, "started_us ended_us"),
        sa.ForeignKeyConstraint(["project_id"], ["mlcore_projects.id"]),
        sa.ForeignKeyConstraint(["run_id"], ["mlcore_runs.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_mlcore_materialisations_project_id_view_boundary_us",
        "mlcore_materialisations",
        ["project_id", "view", "boundary_us"],
    )
    op.create_table(
        "mlcore_monitors",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        *_columns(INTEGER, "project_id"),
        *_columns(TEXT, "name kind"),
        *_columns(JSON, "spec"),
        *_columns(TEXT, "fingerprint"),
        *_columns(JSON, "state"),
        *_columns(sa.Boolean(), "enabled"),
        *_columns(INTEGER, "created_us"),
        *_maybe(INTEGER, "checked_us"),
        sa.ForeignKeyConstraint(["project_id"], ["mlcore_projects.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "name"),
    )
    op.create_table(
        "mlcore_alerts",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        *_columns(INTEGER, "project_id"),
        *_maybe(INTEGER, "monitor_id"),
        *_columns(TEXT, "dedup_key state severity title"),
        *_columns(JSON, "details"),
        *_columns(INTEGER, "opened_us"),
        *_maybe(INTEGER, "acknowledged_us"),
        *_maybe(TEXT, "acknowledged_by"),
        *_maybe(INTEGER, "silenced_until_us resolved_us"),
        sa.CheckConstraint("state IN ('open', 'acknowledged', 'silenced', 'resolved')", name="state"),
        sa.ForeignKeyConstraint(["monitor_id"], ["mlcore_monitors.id"]),
        sa.ForeignKeyConstraint(["project_id"], ["mlcore_projects.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_mlcore_alerts_project_id_state_opened_us", "mlcore_alerts", ["project_id", "state", "opened_us"]
    )
