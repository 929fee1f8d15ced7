"""Who was erased: the keys that nothing may show any more."""

from __future__ import annotations

from sqlalchemy import ForeignKey, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from mlflow_core.metadata.tables.orm import Key, Table


class ErasureRow(Table):
    """An erased entity. The digest is what is unique: a key may be longer than an index allows."""

    __tablename__ = "mlcore_erasures"
    __table_args__ = (UniqueConstraint("project_id", "key_digest"),)

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("mlcore_projects.id"))
    columns: Mapped[str]
    key: Mapped[bytes] = mapped_column(LargeBinary)
    key_digest: Mapped[str]
    erased_us: Mapped[int]
    recorded_us: Mapped[int]
    principal: Mapped[str]
    established: Mapped[str]
