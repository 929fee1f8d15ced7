"""What all tables share: constraint names, portable types, who and when.

Times are 64-bit microseconds since the epoch, UTC, which every database sorts alike. JSON is text in its
canonical form on SQLite, JSONB on PostgreSQL. Every name begins with ``mlcore_``, because Feast's registry
and MLflow have tables called ``projects`` and ``runs`` too, and teams put all of them into one database.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from sqlalchemy import JSON, BigInteger, Boolean, Double, Integer, MetaData, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

VERSION_TABLE = "mlcore_version"
"""Where Alembic notes the revision."""

# SQLite numbers rows by itself only in a column that is called INTEGER.
_KEY = BigInteger().with_variant(Integer(), "sqlite")

Key = Annotated[int, mapped_column(_KEY, primary_key=True, autoincrement=True)]
"""A number the database gives."""

Json = dict[str, Any]
"""A JSON object."""


class Table(DeclarativeBase):
    """The parent of every table here."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: _KEY,
        str: String(),
        float: Double(),
        bool: Boolean(),
        Json: JSON().with_variant(JSONB(), "postgresql"),
    }
