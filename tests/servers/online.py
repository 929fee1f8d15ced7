"""Places for online stores of every backend, as ``online_store`` sections of ``feature_store.yaml`` name them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.postgres import postgres_server
from tests.servers.redis import redis_server

BACKENDS = ("sqlite", "redis", "postgres")


@contextmanager
def online_section(backend: str) -> Iterator[dict[str, str]]:
    """Start what the backend needs; give what the section says beside its type. SQLite's path is the repository's."""
    section = {"type": "mlflow_core.feast.online_store.PackedOnlineStore", "backend": backend}
    if backend == "redis":
        with redis_server() as server:
            yield {**section, "connection": server.url}
    elif backend == "postgres":
        with postgres_server() as server:
            yield {**section, "connection": server.url}
    else:
        yield {**section, "path": "data/online.db"}
