"""Erased entities for those who know only Feast's configuration: where the project keeps the list, and what is on it.

The list is in the project's metadata database (``mlflow_core.metadata.erasures``), which the settings of the folder
with ``mlcore.toml`` name. A repository without either is a plain Feast user's: nothing was erased, nothing is opened.
A list that is there and cannot be read is an error, because it may hide somebody.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_core.config import Settings, load_settings
from mlflow_core.online.keys import decode_key
from mlflow_core.plan.erasures import NOTHING_ERASED, Erasure, Erasures

if TYPE_CHECKING:
    from feast.repo_config import RepoConfig

    from mlflow_core.metadata import ErasureRecord

__all__ = ["erasures_in", "erasures_of", "erasures_of_records"]

_SQLITE = "sqlite:///"
_URL_IN_ENVIRONMENT = "MLCORE_METADATA_URL"


def erasures_of(config: RepoConfig) -> Erasures:
    """Return what was erased in the project of a Feast configuration.

    Args:
        config: Feast's configuration, with the folder of its repository.

    Raises:
        ConfigError: The project's settings are wrong.
        MetadataError: The metadata database is newer than this code, or cannot be read.
    """
    root = _root(Path(config.repo_path or ".").resolve())
    return NOTHING_ERASED if root is None else erasures_in(load_settings(root), project=config.project)


def erasures_in(settings: Settings, *, project: str) -> Erasures:
    """Return what was erased in a project, as of now.

    Args:
        settings: They name the metadata database, which need not be there.
        project: The project's name.

    Raises:
        MetadataError: The database is newer than this code, or cannot be read.
    """
    url = settings.metadata_url()
    file = url.removeprefix(_SQLITE)
    if file != url and not file.startswith("file:") and not Path(file).exists():
        return NOTHING_ERASED
    from mlflow_core.metadata import read_erasures

    return erasures_of_records(read_erasures(url, project=project, namespace=settings.project.namespace))


def erasures_of_records(records: Iterable[ErasureRecord]) -> Erasures:
    """Return what the metadata database has recorded, as plans take it."""
    return Erasures.of(Erasure(one.columns, decode_key(one.key), one.erased_us) for one in records)


def _root(repo: Path) -> Path | None:
    """The project's folder: the nearest with settings, else with what the command keeps beside a repository."""
    for mark in ("mlcore.toml", ".mlcore"):
        for folder in (repo, *repo.parents):
            if (folder / mark).exists():
                return folder
    return repo.parent if _URL_IN_ENVIRONMENT in os.environ else None
