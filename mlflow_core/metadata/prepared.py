"""Statements that are compiled once for each kind of database, and run as text with plain tuples.

For what is written or read often. SQLAlchemy writes the text, so that it is right for each database, and stays out of
the way after that: the driver takes values and gives tuples, unchanged. All else stays with the mapper.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from typing import Any, Final

from sqlalchemy import ARRAY, ColumnElement, Connection, String, any_, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from mlflow_core.metadata.canonical import canonical

__all__ = ["Prepared", "Raw", "among", "asked_ids"]

_DIALECTS: Any = {
    "sqlite": lambda: sqlite.dialect(paramstyle="qmark"),
    "postgresql": lambda: postgresql.psycopg.dialect(paramstyle="format"),  # type: ignore[no-untyped-call]
}

_TOGETHER: Final = (50, 10)
"""How many rows SQLite takes in one statement: half the time a row than one by one, and no less with more of them."""

_NUMBER: Final = re.compile(r":(\d+)")


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
        self._together: dict[tuple[int, tuple[int, ...]], str] = {}

    def rows(self, to: Raw, **given: Any) -> list[tuple[Any, ...]]:
        """Run it, and return its rows."""
        text, names, constants = self._text(to.kind)
        values = [given[name] if name in given else constants[name] for name in names]
        found: list[tuple[Any, ...]] = to.connection.execute(text, values).fetchall()
        return found

    def insert(self, to: Raw, rows: Sequence[tuple[Any, ...]]) -> int:
        """Run it for each row.

        Returns:
            How many rows were written.
        """
        if not rows:
            return 0
        text, names, _ = self._text(to.kind)
        # The driver takes them by place: in the table's order, which the statement is written in.
        assert names == self._columns, "columns are given in the table's order"
        cursor, done, written = to.connection.cursor(), 0, 0
        if to.kind == "sqlite" and len(rows) >= _TOGETHER[-1]:
            done, written = self._insert_together(cursor, rows)
        if done < len(rows):  # PostgreSQL's driver sends them together by itself
            cursor.executemany(text, rows[done:])
            written += cursor.rowcount
        cursor.close()
        return written

    def _insert_together(self, cursor: Any, rows: Sequence[tuple[Any, ...]]) -> tuple[int, int]:
        """Insert the first rows, as many as fill statements; what all rows have is given once, and is most of it.

        Returns:
            How many rows these were, and how many of them were written.
        """
        columns = list(zip(*rows, strict=True))
        own = tuple(place for place, column in enumerate(columns) if not _is_one(column))
        values = list(chain.from_iterable(zip(*(columns[place] for place in own), strict=True)))
        done, written = 0, 0
        for count in _TOGETHER:
            while len(rows) - done >= count:
                others = values[(done + 1) * len(own) : (done + count) * len(own)]
                cursor.execute(self._numbered(count, own), [*rows[done], *others])
                written += cursor.rowcount
                done += count
        return done, written

    def _numbered(self, count: int, own: tuple[int, ...]) -> str:
        """The text for some rows, with values by number: the first row's, then what is each other row's own."""
        if (count, own) not in self._together:
            rows: Any = [
                {
                    name: bindparam(f"{name}_{row}" if place in own else name)
                    for place, name in enumerate(self._columns)
                }
                for row in range(count)
            ]
            statement = self._build("sqlite").values(rows)
            text = str(statement.compile(dialect=sqlite.dialect(paramstyle="numeric")))
            self._together[count, own] = _NUMBER.sub(r"?\1", text)
        return self._together[count, own]

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


def _is_one(column: tuple[Any, ...]) -> bool:
    # Numbers may be equal and not the same, as 0.0 and -0.0 are; what rows share here are texts, times and nulls.
    return not isinstance(column[0], float) and column.count(column[0]) == len(column)


def among(column: Any, kind: str) -> ColumnElement[bool]:
    """Whether a column is one of the texts given as ``ids``: one value, however many they are.

    Args:
        column: The column.
        kind: Of the database.
    """
    if kind == "sqlite":
        one: ColumnElement[bool] = column.in_(select(asked_ids().c.value))
        return one
    return column == any_(bindparam("ids", type_=ARRAY(String)))  # type: ignore[no-any-return]


def asked_ids() -> Any:
    """The texts given as ``ids`` as a table with the column ``value``, on SQLite."""
    return func.json_each(bindparam("ids", type_=String)).table_valued("value")
