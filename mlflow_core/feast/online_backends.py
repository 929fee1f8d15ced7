"""Which backend an ``online_store`` section of ``feature_store.yaml`` means, opened for its project."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from mlflow_core.config.clock import Clock
from mlflow_core.errors import ConfigError
from mlflow_core.online.backend import OnlineBackend
from mlflow_core.online.sqlite import SqliteBackend

__all__ = ["BackendName", "opened_backend"]

BackendName: TypeAlias = Literal["sqlite", "redis", "postgres"]


def opened_backend(
    backend: BackendName,
    *,
    project: str,
    clock: Clock,
    timeout_s: float,
    path: Path,
    connection: str | None,
) -> OnlineBackend:
    """Open a backend; it connects when it is first used.

    Args:
        backend: Which one.
        project: Whose rows.
        clock: Says when a key is erased.
        timeout_s: How long to wait for the store.
        path: SQLite's file.
        connection: The address of Redis or PostgreSQL.

    Raises:
        ConfigError: The address is missing, or given for a file.
    """
    if backend == "sqlite":
        if connection is not None:
            raise _wrong("has a connection, but SQLite is a file", "path: data/online.db")
        return SqliteBackend(path, project, clock, timeout_s=timeout_s)
    if connection is None:
        raise _wrong(f"has no connection to {backend}", f"connection: {_EXAMPLES[backend]}")
    # A store's client is an extra: it is imported only where the store is named.
    if backend == "redis":
        from mlflow_core.online.redis.backend import RedisBackend

        return RedisBackend(connection, project, clock, timeout_s=timeout_s)
    from mlflow_core.online.postgres.store import PostgresBackend

    return PostgresBackend(connection, project, clock, timeout_s=timeout_s)


_EXAMPLES = {"redis": "redis://127.0.0.1:6379/0", "postgres": "postgresql://user@127.0.0.1/features"}


def _wrong(what: str, expected: str) -> ConfigError:
    return ConfigError(what, object="online_store", place="feature_store.yaml", expected=expected)
