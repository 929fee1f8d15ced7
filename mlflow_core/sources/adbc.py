"""Rows of a database as Arrow, without making Python objects of them: drivers of ADBC, where one is installed.

Only what is sure to come out as through SQLAlchemy is taken: where there is no driver for the database, or a column
comes in a form that would need a guess, the answer is None and the caller reads the rows the other way.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from mlflow_core.algebra.columns import settled
from mlflow_core.algebra.types import TIME

__all__ = ["fetch_arrow"]

_DRIVERS = {"postgresql": "adbc_driver_postgresql.dbapi", "sqlite": "adbc_driver_sqlite.dbapi"}

Columns = list[pa.ChunkedArray]


def fetch_arrow(url: sa.URL, statement: str | sa.Select[Any], schema: pa.Schema) -> Columns | None:
    """Run a statement through ADBC.

    Args:
        url: The database, as SQLAlchemy knows it.
        statement: Text, or a statement whose values are written into its text.
        schema: The types that its columns shall have, in its order.

    Returns:
        The columns, or None where SQLAlchemy must read them.
    """
    driver = _driver(url.get_backend_name())
    if driver is None or url.database in ("", ":memory:"):
        return None
    try:
        with driver.connect(_address(url)) as connection, connection.cursor() as cursor:
            cursor.execute(statement if isinstance(statement, str) else _text(statement, url.get_dialect()))
            table = cursor.fetch_arrow_table()
    except (driver.Error, pa.ArrowException):
        return None  # SQLAlchemy runs it again, and says what is wrong in the database's own words
    if len(table.schema) != len(schema):
        return None
    columns = [_fitted(column, field.type) for column, field in zip(table.columns, schema, strict=True)]
    return None if any(column is None for column in columns) else columns


def _driver(backend: str) -> ModuleType | None:
    try:
        return importlib.import_module(_DRIVERS[backend])
    except (KeyError, ImportError):
        return None


def _address(url: sa.URL) -> str:
    if url.get_backend_name() == "sqlite":
        return f"{url.database}?mode=ro"
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _text(statement: sa.Select[Any], dialect: Callable[..., Dialect]) -> str:
    compiled = statement.compile(dialect=dialect(paramstyle="named"), compile_kwargs={"literal_binds": True})
    return str(compiled)


def _fitted(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    """Bring a column to its type, or tell that it is not certain what its values mean."""
    if isinstance(column.type, pa.OpaqueType) and column.type.type_name == "numeric":
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    elif kind == pa.float64() and pa.types.is_string(column.type):
        return None
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column), kind)])
    if column.type == kind:
        return column
    if column.type == pa.float32() and kind == pa.float64():
        column = column.cast(pa.string())  # the decimal that the database shows, as its other drivers give it
    if not (_same_numbers(column.type, kind) or any(matches(column.type) for matches in _SURE.get(kind, ()))):
        return None
    try:
        if kind == TIME and pa.types.is_string(column.type):
            column = column.cast(
                pa.timestamp("us")
            )  # a text with a zone does not fit, and is left to SQLAlchemy
        return settled(column).cast(kind)
    except pa.ArrowException:
        return None


def _same_numbers(given: pa.DataType, kind: pa.DataType) -> bool:
    """Tell whether both are lists of whole numbers."""
    return all(pa.types.is_list(one) and pa.types.is_integer(one.value_type) for one in (given, kind))


_SURE: dict[pa.DataType, tuple[Callable[[pa.DataType], bool], ...]] = {
    TIME: (pa.types.is_timestamp, pa.types.is_date, pa.types.is_string),
    pa.int64(): (pa.types.is_integer,),
    pa.float64(): (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal, pa.types.is_string),
    pa.bool_(): (pa.types.is_integer,),
    pa.string(): (pa.types.is_large_string, pa.types.is_string_view),
    pa.binary(): (pa.types.is_large_binary, pa.types.is_binary_view),
}
