"""Repositories: one folder for each (side, store), with the ``feature_store.yaml`` that is all they differ in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

__all__ = ["PROJECT", "Repository", "Side", "make_repository"]

PROJECT = "bench"
Side = Literal["feast", "ours", "front"]  # front: our server on the store that Feast wrote
PACKED = "mlflow_core.feast.online_store.PackedOnlineStore"
ENGINES: dict[str, dict[str, Any]] = {
    "feast": {"offline_store": {"type": "dask"}, "batch_engine": {"type": "local"}},
    "ours": {
        "offline_store": {"type": "mlflow_core.feast.offline_store.DaskOfflineStore"},
        "batch_engine": {"type": "mlflow_core.feast.compute_engine.DaskComputeEngine"},
    },
}


@dataclass(frozen=True)
class Repository:
    """A repository on disk: ``root`` has ``mlcore.toml``, ``repo`` below it ``feature_store.yaml``."""

    side: Side
    store: str
    root: Path

    @property
    def repo(self) -> Path:
        return self.root / "repo"


def make_repository(
    folder: Path, side: Side, store: str, where: str, *, registry: Path | None = None
) -> Repository:
    """Write the configuration.

    Args:
        folder: Where the repository's folder is made.
        side: Who writes.
        store: ``redis``, ``sqlite`` or ``postgres``.
        where: Port of Redis; folder of PostgreSQL's socket and database, "folder/database"; file of SQLite.
        registry: The registry of another repository, to stand in front of its store.
    """
    made = Repository(side, store, folder / f"{side}-{store}")
    made.repo.mkdir(parents=True, exist_ok=True)
    (made.root / "mlcore.toml").write_text('[project]\nfeature_repo = "repo"\n')
    path = registry or made.repo / "registry.db"
    config = {
        "project": PROJECT,
        "provider": "local",
        "registry": {"registry_type": "sql", "path": f"sqlite:///{path}"},
        "online_store": (_ours if side == "ours" else _feast)(store, where),
        "entity_key_serialization_version": 3,
        **ENGINES["feast" if side == "feast" else "ours"],
    }
    (made.repo / "feature_store.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return made


def _feast(store: str, where: str) -> dict[str, Any]:
    if store == "redis":
        return {"type": "redis", "connection_string": f"127.0.0.1:{where}"}
    if store == "sqlite":
        return {"type": "sqlite", "path": where}
    host, _, database = where.rpartition("/")
    login = {"user": "bench", "password": "none", "sslmode": "disable"}
    return {"type": "postgres", "host": host, "database": database, **login}


def _ours(store: str, where: str) -> dict[str, Any]:
    if store == "redis":
        return {"type": PACKED, "backend": "redis", "connection": f"redis://127.0.0.1:{where}/0"}
    if store == "sqlite":
        return {"type": PACKED, "backend": "sqlite", "path": where}
    host, _, database = where.rpartition("/")
    return {
        "type": PACKED,
        "backend": "postgres",
        "connection": f"postgresql://bench@/{database}?host={host}",
    }
