"""Runs that are asked to stop, tokens, schedules, and each metric's last step in a table of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision: str | None = "0002"
branch_labels = depends_on = None
INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TEXT = sa.String()
LAST_STEPS = """
INSERT INTO mlcore_latest_metrics (run_id, name, step, value, low, high, at_us)
SELECT m.run_id, m.name, m.step, m.value, m.low, m.high, m.at_us FROM mlcore_metrics m
JOIN (SELECT run_id, name, max(step) AS step FROM mlcore_metrics GROUP BY run_id, name) l
  ON m.run_id = l.run_id AND m.name = l.name AND m.step = l.step
"""


def upgrade() -> None:
    """Add the tables and columns, and fill in the last step of every metric that was logged before."""
    op.add_column("mlcore_runs", sa.Column("cancel_requested_us", INTEGER, nullable=True))
    op.add_column("mlcore_runs", sa.Column("cancel_requested_by", TEXT, nullable=True))
    _tokens()
    _schedules()
    _latest_metrics()


def downgrade() -> None:
    """Take all of it away; who was given a token is then found in the audit log only."""
    op.create_index("ix_mlcore_metrics_name_value", "mlcore_metrics", ["name", "value"])
    for table in ("latest_metrics", "schedules", "tokens"):
        op.drop_table(f"mlcore_{table}")
    op.drop_column("mlcore_runs", "cancel_requested_by")
    op.drop_column("mlcore_runs", "cancel_requested_us")


def _tokens() -> None:
    op.create_table(
        "mlcore_tokens",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        sa.Column("namespace_id", INTEGER, nullable=False),
        sa.Column("principal", TEXT, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("note", TEXT, nullable=False),
        sa.Column("created_us", INTEGER, nullable=False),
        sa.Column("created_by", TEXT, nullable=False),
        sa.Column("established", TEXT, nullable=False),
        sa.Column("expires_us", INTEGER, nullable=True),
        sa.Column("revoked_us", INTEGER, nullable=True),
        sa.Column("revoked_by", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["namespace_id"], ["mlcore_namespaces.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_index("ix_mlcore_tokens_namespace_id", "mlcore_tokens", ["namespace_id"])


def _schedules() -> None:
    op.create_table(
        "mlcore_schedules",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        sa.Column("project_id", INTEGER, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("pipeline", TEXT, nullable=False),
        sa.Column("cron", TEXT, nullable=True),
        sa.Column("zone", TEXT, nullable=False),
        sa.Column("triggers", JSON, nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("next_us", INTEGER, nullable=True),
        sa.Column("last_run", TEXT, nullable=True),
        sa.Column("last_us", INTEGER, nullable=True),
        sa.Column("last_error", TEXT, nullable=True),
        sa.Column("lease_owner", TEXT, nullable=True),
        sa.Column("lease_until_us", INTEGER, nullable=True),
        sa.Column("principal", TEXT, nullable=False),
        sa.Column("established", TEXT, nullable=False),
        sa.Column("created_us", INTEGER, nullable=False),
        sa.Column("changed_us", INTEGER, nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["mlcore_projects.id"]),
        sa.ForeignKeyConstraint(["last_run"], ["mlcore_runs.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "name"),
    )
    op.create_index("ix_mlcore_schedules_project_id_next_us", "mlcore_schedules", ["project_id", "next_us"])
    op.create_index("ix_mlcore_schedules_last_run", "mlcore_schedules", ["last_run"])


def _latest_metrics() -> None:
    op.create_table(
        "mlcore_latest_metrics",
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("step", INTEGER, autoincrement=False, nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("at_us", INTEGER, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["mlcore_runs.id"]),
        sa.PrimaryKeyConstraint("run_id", "name"),
        sqlite_with_rowid=False,
    )
    op.execute(LAST_STEPS)
    op.create_index("ix_mlcore_latest_metrics_name_value", "mlcore_latest_metrics", ["name", "value"])
    op.drop_index("ix_mlcore_metrics_name_value", "mlcore_metrics")
