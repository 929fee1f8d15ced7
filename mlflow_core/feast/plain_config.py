"""A ``feature_store.yaml`` that needs no Feast to be understood: this package's stores and an SQL registry.

Feast checks the file with the classes that it names, and importing those takes seconds. What is read here is right
for certain; every other file, also a wrong one, is left to Feast, who says what is wrong with it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from mlflow_core.feast.online_backends import BackendName

__all__ = ["FILE", "SQLITE", "PlainConfig", "absolute_url", "plain_config"]

FILE = "feature_store.yaml"
SQLITE = "sqlite:///"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Registry(_Section):
    registry_type: Literal["sql"]
    path: str


class _OfflineStore(_Section):
    type: Literal["mlflow_core.feast.offline_store.DaskOfflineStore"]


class _OnlineStore(_Section):
    type: Literal["mlflow_core.feast.online_store.PackedOnlineStore"]
    backend: BackendName = "sqlite"
    path: str = ""
    connection: str | None = None


class _BatchEngine(_Section):
    type: Literal["mlflow_core.feast.compute_engine.DaskComputeEngine"]


class PlainConfig(_Section):
    """The whole file.

    Attributes:
        project: Whose objects are meant.
        registry: Where they are kept.
    """

    project: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$")]
    provider: Literal["local"]
    registry: _Registry
    offline_store: _OfflineStore
    online_store: _OnlineStore
    batch_engine: _BatchEngine
    entity_key_serialization_version: Literal[3]


def plain_config(repo: Path) -> PlainConfig | None:
    """Read a repository's configuration, or return None where only Feast can tell what it means.

    Args:
        repo: The folder with ``feature_store.yaml``; the registry's path starts there.
    """
    try:
        found = PlainConfig.model_validate(yaml.safe_load(os.path.expandvars((repo / FILE).read_text())))
    except (OSError, ValueError, yaml.YAMLError, ValidationError):
        return None
    registry = found.registry.model_copy(update={"path": absolute_url(found.registry.path, repo)})
    return found.model_copy(update={"registry": registry})


def absolute_url(url: str, repo: Path) -> str:
    """Return a registry's URL with the path of a SQLite file made absolute.

    Args:
        url: The URL; every other one stays as it is.
        repo: Where relative paths start.
    """
    path = url.removeprefix(SQLITE)
    if not url.startswith(SQLITE) or path in ("", ":memory:") or path.startswith("file:"):
        return url
    return f"{SQLITE}{(repo / path).resolve()}"
