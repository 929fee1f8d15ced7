"""Statements that are compiled once for each kind of database, and run as text with plain tuples.

For what is written or read often. SQLAlchemy writes the text, so that it is right for each database, and stays out of
the way after that: the driver takes values and gives tuples, unchanged. All else stays with the mapper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from typing import Any, Final

from sqlalchemy import ARRAY, ColumnElement, Connection, String, any_, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from mlflow_core.metadata.canonical import canonical

__all__ = ["Prepared", "Raw", "among"]

_DIALECTS: Any = {
    "sqlite": lambda: sqlite.dialect(paramstyle="qmark"),
    "postgresql": lambda: postgresql.psycopg.dialect(paramstyle="format"),  # type: ignore[no-untyped-call]
}

_TOGETHER: Final = 50
"""How many rows SQLite takes in one statement: a fifth less time a row than one by one, and no less with more of them."""


@dataclass(frozen=True)
class Raw:
    """A transaction as the driver sees it.

    Args:
        connection: The driver's own.
        kind: Of the database: ``sqlite`` or ``postgresql``.
    """

    connection: Any
    kind: str

    @classmethod
    def of(cls, connection: Connection) -> Raw:
        """The transaction that a connection of SQLAlchemy's is in."""
        return cls(connection.connection.driver_connection, connection.dialect.name)

    def texts(self, given: Sequence[str]) -> Any:
        """Texts as the value of :func:`among`."""
        return canonical(given) if self.kind == "sqlite" else list(given)


class Prepared:
    """A statement whose text is made on first use.

    Args:
        build: Makes the statement for a kind of database; what changes is a ``bindparam`` in it.
        columns: What each tuple has, in order, where the statement inserts rows.
    """

    def __init__(self, build: Callable[[str], Any], *, columns: tuple[str, ...] = ()) -> None:
        self._build, self._columns = build, columns
        self._texts: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {}
        self._together = ""

    def rows(self, to: Raw, **given: Any) -> list[tuple[Any, ...]]:
        """Run it, and return its rows."""
        text, names, constants = self._text(to.kind)
        values = [given[name] if name in given else constants[name] for name in names]
        found: list[tuple[Any, ...]] = to.connection.execute(text, values).fetchall()
        return found

    def insert(self, to: Raw, rows: Sequence[tuple[Any, ...]]) -> int:
        """Run it once for each row.

        Returns:
            How many rows were written.
        """
        if not rows:
            return 0
        text, names, _ = self._text(to.kind)
        # The driver takes them by place: in the table's order, which the statement is written in.
        assert names == self._columns, "columns are given in the table's order"
        cursor, written, rest = to.connection.cursor(), 0, 0
        if to.kind == "sqlite" and len(rows) >= _TOGETHER:  # the other driver sends them together by itself
            rest = len(rows) - len(rows) % _TOGETHER
            for first in range(0, rest, _TOGETHER):
                cursor.execute(self._many(), list(chain(*rows[first : first + _TOGETHER])))
                written += cursor.rowcount
        if rest < len(rows):
            cursor.executemany(text, rows[rest:])
            written += cursor.rowcount
        cursor.close()
        return written

    def _many(self) -> str:
        if not self._together:
            rows: Any = [
                {name: bindparam(f"{name}_{row}") for name in self._columns} for row in range(_TOGETHER)
            ]
            self._together = str(self._build("sqlite").values(rows).compile(dialect=_DIALECTS["sqlite"]()))
        return self._together

    def _text(self, kind: str) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        if kind not in self._texts:
            names = list(self._columns) or None
            compiled = self._build(kind).compile(dialect=_DIALECTS[kind](), column_keys=names)
            # A driver knows texts, and not what of ours is a text.
            constants = {
                name: value.value if isinstance(value, Enum) else value
                for name, value in compiled.params.items()
            }
            self._texts[kind] = str(compiled), tuple(compiled.positiontup), constants
        return self._texts[kind]


def among(column: Any, kind: str) -> ColumnElement[bool]:
    """Whether a column is one of the texts given as ``ids``: one value, however many they are.

    Args:
        column: The column.
        kind: Of the database.
    """
    if kind == "sqlite":
        given = func.json_each(bindparam("ids", type_=String)).table_valued("value")
        one: ColumnElement[bool] = column.in_(select(given.c.value))
        return one
    return column == any_(bindparam("ids", type_=ARRAY(String)))  # type: ignore[no-any-return]
