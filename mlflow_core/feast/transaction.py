"""One transaction around many registry writes: Feast's SQL registry commits after every object.

Feast opens a transaction for each object it writes, so an apply that fails half-way leaves half of it behind. For
the length of the ``with`` block the registry is given an engine whose transactions all join one, which is begun
with the write lock taken and committed only when the block ends well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy
from feast.infra.registry.base_registry import BaseRegistry
from feast.infra.registry.sql import SqlRegistry
from sqlalchemy.exc import ArgumentError, DBAPIError

from mlflow_core.errors import RegistryError

__all__ = ["one_transaction", "registry_errors", "shown_registry", "shown_url"]


@contextmanager
def one_transaction(registry: BaseRegistry) -> Iterator[None]:
    """Make all writes to a registry inside the block happen together or not at all.

    Args:
        registry: Feast's registry; one that is not SQL has no transactions and is written as it is.

    Raises:
        RegistryError: The database is locked, read-only or full; it holds what it held before.
    """
    if not isinstance(registry, SqlRegistry):
        with registry_errors(str(getattr(registry, "_registry_store", "registry"))):
            yield
        return
    engines = registry.write_engine, registry.read_engine
    cache_mode = registry.cache_mode
    with registry_errors(shown_url(engines[0].url)):
        try:
            with engines[0].begin() as connection:
                if engines[0].dialect.name == "sqlite":
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                joined: Any = _Joined(connection)
                registry.write_engine = registry.read_engine = joined
                # In "sync" mode Feast rebuilds its whole cache after each object; once, at the end, is enough.
                registry.cache_mode = "thread"
                yield
        finally:
            registry.write_engine, registry.read_engine = engines
            registry.cache_mode = cache_mode
        registry.refresh()


@contextmanager
def registry_errors(where: str) -> Iterator[None]:
    """Turn what the database says into one clear message.

    Args:
        where: The registry: its file or URL, which messages show without a password.

    Raises:
        RegistryError: In place of every database error inside the block.
    """
    where = shown_registry(where)
    try:
        yield
    except DBAPIError as error:
        cause = str(error.orig)
        for sign, what, hint in _SIGNS:
            if sign in cause:
                raise RegistryError(what, object=f"registry {where}", hint=hint) from error
        raise RegistryError(
            f"answered: {cause}", object=f"registry {where}", hint="Nothing was changed."
        ) from error


def shown_registry(where: str) -> str:
    """Return where a registry is for messages: its file, or its URL with the password hidden."""
    try:
        return shown_url(sqlalchemy.make_url(where))
    except ArgumentError:  # a file's path is no URL
        return where


def shown_url(url: sqlalchemy.URL) -> str:
    """Return a database URL for messages, its password hidden."""
    if url.get_backend_name() == "sqlite":
        return (url.database or "").removeprefix("file:")
    return url.render_as_string(hide_password=True)


_SIGNS = (
    (
        "database is locked",
        "is locked by another process",
        "Nothing was changed. Try again when it has finished.",
    ),
    ("readonly database", "is read-only", "Nothing was changed. Allow writing to the file and its folder."),
    (
        "unable to open database",
        "cannot be opened",
        "Nothing was changed. Check that its folder exists and can be read.",
    ),
    ("disk is full", "has no space left", "Nothing was changed. Free some space and try again."),
    ("not a database", "is no SQLite database", "Nothing was changed. Move the file away, then apply again."),
    ("no such table", "has no tables yet", "Run: mlcore apply"),
)


class _Joined:
    """What Feast's registry uses of an engine, on one connection whose transaction is already open."""

    def __init__(self, connection: sqlalchemy.Connection) -> None:
        self._connection = connection
        self.dialect = connection.dialect
        self.url = connection.engine.url

    @contextmanager
    def begin(self) -> Iterator[sqlalchemy.Connection]:
        yield self._connection

    connect = begin
