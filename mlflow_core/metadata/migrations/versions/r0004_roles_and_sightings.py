"""What tokens may do where they are shown to a server, and what a schedule's watch has seen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision: str | None = "0003"
branch_labels = depends_on = None
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Add both; a token that was made before may only read, since no server has accepted it until now."""
    op.add_column("mlcore_tokens", sa.Column("role", sa.String(), nullable=False, server_default="read"))
    op.add_column("mlcore_schedules", sa.Column("seen", JSON, nullable=False, server_default=sa.text("'{}'")))


def downgrade() -> None:
    """Take both away; servers of that version accept none of these tokens."""
    op.drop_column("mlcore_schedules", "seen")
    op.drop_column("mlcore_tokens", "role")
