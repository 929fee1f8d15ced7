"""Keys that were erased, and datasets that were taken away with them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels = depends_on = None
INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table of erasures, and say of datasets when and why they were removed."""
    op.create_table(
        "mlcore_erasures",
        sa.Column("id", INTEGER, autoincrement=True, nullable=False),
        sa.Column("project_id", INTEGER, nullable=False),
        sa.Column("columns", sa.String(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("key_digest", sa.String(), nullable=False),
        sa.Column("erased_us", INTEGER, nullable=False),
        sa.Column("recorded_us", INTEGER, nullable=False),
        sa.Column("principal", sa.String(), nullable=False),
        sa.Column("established", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["mlcore_projects.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "key_digest"),
    )
    op.add_column("mlcore_datasets", sa.Column("removed_us", INTEGER, nullable=True))
    op.add_column("mlcore_datasets", sa.Column("removed_why", sa.String(), nullable=True))


def downgrade() -> None:
    """Take both away; the sources would show the erased keys again."""
    op.drop_column("mlcore_datasets", "removed_why")
    op.drop_column("mlcore_datasets", "removed_us")
    op.drop_table("mlcore_erasures")
