"""Writing many rows quickly: statements that are compiled once for each kind of database, and rows without objects.

What runs log is written often and looked at later, so the mapper's work for each row would be most of the time. The
driver is given the text and plain tuples; what SQLAlchemy knows of types is needed by none of these columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.dialects import postgresql, sqlite

from mlflow_core.metadata.tables import Table

__all__ = ["Upsert"]


@dataclass(frozen=True)
class Upsert:
    """An insertion that knows what to do where a row of the same key is there already.

    Args:
        table: Where to.
        columns: What each row has, in order; other columns stay null.
        key: The columns that tell rows apart.
        keep: Leave the row that is there, instead of replacing it.
        unless_later: The column by which the row that is there may be the later one, and stays then.
    """

    table: type[Table]
    columns: tuple[str, ...]
    key: tuple[str, ...]
    keep: bool = False
    unless_later: str | None = None

    def write(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Write rows, of which no two have the same key.

        Returns:
            How many were written: fewer, where rows were kept.
        """
        if not rows:
            return 0
        text, positional = _compiled(self, connection.dialect)
        given: Any = list(rows) if positional else [dict(zip(self.columns, row, strict=True)) for row in rows]
        return connection.exec_driver_sql(text, given).rowcount


@lru_cache(maxsize=64)
def _compiled(upsert: Upsert, dialect: Dialect) -> tuple[str, bool]:
    insert: Any = sqlite.insert if dialect.name == "sqlite" else postgresql.insert
    statement = insert(upsert.table)
    if upsert.keep:
        statement = statement.on_conflict_do_nothing(index_elements=list(upsert.key))
    else:
        new, later = statement.excluded, upsert.unless_later
        statement = statement.on_conflict_do_update(
            index_elements=list(upsert.key),
            set_={name: new[name] for name in upsert.columns if name not in upsert.key},
            where=None if later is None else new[later] >= getattr(upsert.table, later),
        )
    compiled = statement.compile(dialect=dialect, column_keys=list(upsert.columns))
    if not compiled.positional:
        return str(compiled), False
    # The driver takes them by place: in the table's order, which the statement is written in.
    assert tuple(compiled.positiontup) == upsert.columns, "columns are given in the table's order"
    return str(compiled), True
