"""Who may act: the bearer tokens that were made, as digests."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from mlflow_core.metadata.tables.orm import Key, Table


class TokenRow(Table):
    """One bearer token of one principal of a namespace. The token itself is nowhere."""

    __tablename__ = "mlcore_tokens"

    id: Mapped[Key]
    namespace_id: Mapped[int] = mapped_column(ForeignKey("mlcore_namespaces.id"), index=True)
    principal: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str] = mapped_column(server_default="read")
    note: Mapped[str]
    created_us: Mapped[int]
    created_by: Mapped[str]
    established: Mapped[str]
    expires_us: Mapped[int | None]
    revoked_us: Mapped[int | None]
    revoked_by: Mapped[str | None]
