"""Who owns what, and what was declared: namespaces, projects, specs in every version, and applies."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from mlflow_core.metadata.tables.orm import Json, Key, Table


class NamespaceRow(Table):
    """A team or tenant."""

    __tablename__ = "mlcore_namespaces"

    id: Mapped[Key]
    name: Mapped[str] = mapped_column(unique=True)
    created_us: Mapped[int]


class ProjectRow(Table):
    """A project in a namespace; nearly everything else belongs to one."""

    __tablename__ = "mlcore_projects"
    __table_args__ = (UniqueConstraint("namespace_id", "name"),)

    id: Mapped[Key]
    namespace_id: Mapped[int] = mapped_column(ForeignKey("mlcore_namespaces.id"))
    name: Mapped[str]
    created_us: Mapped[int]


class SpecRow(Table):
    """One version of one declared thing, named by its content."""

    __tablename__ = "mlcore_specs"
    __table_args__ = (UniqueConstraint("project_id", "kind", "name", "fingerprint"),)

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("mlcore_projects.id"))
    kind: Mapped[str]
    name: Mapped[str]
    fingerprint: Mapped[str]
    content: Mapped[str]
    first_applied_us: Mapped[int]


class ApplyRow(Table):
    """One change of the set of specs in force."""

    __tablename__ = "mlcore_applies"
    __table_args__ = (Index(None, "project_id", "applied_us"),)

    id: Mapped[Key]
    project_id: Mapped[int] = mapped_column(ForeignKey("mlcore_projects.id"))
    fingerprint: Mapped[str]
    changes: Mapped[Json]
    code: Mapped[Json]
    principal: Mapped[str]
    established: Mapped[str]
    applied_us: Mapped[int]


class ApplySpecRow(Table):
    """Which specs an apply put in force."""

    __tablename__ = "mlcore_apply_specs"

    apply_id: Mapped[int] = mapped_column(ForeignKey("mlcore_applies.id"), primary_key=True)
    spec_id: Mapped[int] = mapped_column(ForeignKey("mlcore_specs.id"), primary_key=True, index=True)
