"""Insertions that know what to do where a row of the same key is there already, for what runs log.

That is written often and looked at later, so the mapper's work for each row would be most of the time. What SQLAlchemy
knows of types is needed by none of these columns.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite

from mlflow_core.metadata.prepared import Prepared
from mlflow_core.metadata.tables import Table

__all__ = ["upsert"]


def upsert(
    table: type[Table],
    columns: tuple[str, ...],
    *,
    key: tuple[str, ...],
    keep: bool = False,
    unless_later: str | None = None,
) -> Prepared:
    """Make an insertion; no two of the rows that it is given at once may have the same key.

    Args:
        table: Where to.
        columns: What each row has, in the table's order; other columns stay null.
        key: The columns that tell rows apart.
        keep: Leave the row that is there, instead of replacing it; it does not count as written.
        unless_later: The column by which the row that is there may be the later one, and stays then.
    """

    def build(kind: str) -> Any:
        insert: Any = sqlite.insert if kind == "sqlite" else postgresql.insert
        statement = insert(table)
        if keep:
            return statement.on_conflict_do_nothing(index_elements=list(key))
        new = statement.excluded
        return statement.on_conflict_do_update(
            index_elements=list(key),
            set_={name: new[name] for name in columns if name not in key},
            where=None if unless_later is None else new[unless_later] >= getattr(table, unless_later),
        )

    return Prepared(build, columns=columns)
