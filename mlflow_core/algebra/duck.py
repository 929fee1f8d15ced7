"""A private DuckDB for expressions: no files, no network, UTC, one thread, rows in their order.

Opening one takes 20 ms, so each thread keeps its own; nothing is stored in it between two calls, and a forked
process opens another.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["connection", "registered"]

_OPEN = threading.local()
_SETTINGS = (
    "SET TimeZone = 'UTC'",
    "SET python_enable_replacements = false",
    "SET error_on_division_by_zero = false",
    "SET preserve_insertion_order = true",
    "SET lock_configuration = true",
)


def connection() -> DuckDBPyConnection:
    """Return this thread's DuckDB, opened when it is first asked for."""
    if getattr(_OPEN, "process", None) != os.getpid():
        _OPEN.connection, _OPEN.process = _opened(), os.getpid()
    made: DuckDBPyConnection = _OPEN.connection
    return made


@contextmanager
def registered(table: pa.Table) -> Iterator[tuple[DuckDBPyConnection, str]]:
    """Lend DuckDB a table under the name that is yielded, without copying it."""
    duck, name = connection(), "rows_of_the_source"
    duck.register(name, table)
    try:
        yield duck, name
    finally:
        duck.unregister(name)


def _opened() -> DuckDBPyConnection:
    import duckdb

    duck = duckdb.connect(
        ":memory:",
        config={
            "threads": 1,
            "enable_external_access": False,
            "autoload_known_extensions": False,
            "autoinstall_known_extensions": False,
        },
    )
    for setting in _SETTINGS:
        duck.execute(setting)
    return duck
