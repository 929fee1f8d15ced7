"""Feast's registry as this package uses it: open a repository's store, read what was applied, apply a project.

The registry is the only place where what was applied is kept; nothing is cached beside it. What to write is
decided in ``mlflow_core.plan.to_feast``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import sqlalchemy
import yaml
from feast import FeatureStore
from feast import Project as FeastProject
from feast.data_source import DataSource
from feast.errors import FeastError, ProjectObjectNotFoundException
from feast.repo_config import RepoConfig
from pydantic import ValidationError

from mlflow_core.errors import ConfigError, MlcoreError, RegistryError
from mlflow_core.feast.drift import stale_on_demand, with_drift
from mlflow_core.feast.plain_config import FILE, absolute_url
from mlflow_core.feast.stored_view import marked_as_removed
from mlflow_core.feast.transaction import one_transaction, registry_errors, shown_registry
from mlflow_core.plan.diff import Applied, Diff, diff
from mlflow_core.plan.from_feast import MANIFEST_TAG, SPEC_TAG
from mlflow_core.plan.project import Project
from mlflow_core.plan.to_feast import KIND_TAG, identity, to_feast

__all__ = [
    "applied_specs",
    "apply_project",
    "has_registry",
    "open_store",
    "plan_project",
    "read_config",
]


def open_store(repo: Path, *, clock: str | None = None, create: bool = False) -> FeatureStore:
    """Open the Feast store of a feature repository, wherever the process runs.

    Args:
        repo: The folder with ``feature_store.yaml``; relative paths in it start there.
        clock: What "now" means for online reads, e.g. ``2013-11-15T12:30Z``; None leaves the store's own.
        create: Make the registry, and its folder inside the repository, where they do not exist.

    Returns:
        The store, its registry opened.

    Raises:
        ConfigError: ``feature_store.yaml`` is missing or wrong.
        RegistryError: There is no registry, or it is locked or cannot be opened.
    """
    config = _config(repo, clock)
    path = _sqlite_path(config)
    if path is not None:
        _refuse_missing(path, repo, create)
    where = shown_registry(str(path or config.registry.path))
    with registry_errors(where):
        store = FeatureStore(repo_path=str(repo), config=config)
        try:
            store.registry  # noqa: B018 (Feast opens it on first access)
        except FeastError as error:
            raise RegistryError(str(error), object=f"registry {where}") from error
    return store


def read_config(repo: Path, *, clock: str | None = None) -> RepoConfig:
    """Read a repository's configuration for a process that reads the registry itself, without Feast's classes.

    Args:
        repo: The folder with ``feature_store.yaml``; relative paths in it start there.
        clock: What "now" means for online reads; None leaves the store's own.

    Raises:
        ConfigError: ``feature_store.yaml`` is missing or wrong.
        RegistryError: There is no registry.
    """
    config = _config(repo, clock)
    path = _sqlite_path(config)
    if path is not None:
        _refuse_missing(path, repo, create=False)
    return config


def has_registry(repo: Path) -> bool:
    """Say whether a repository's registry exists; one that is no SQLite file is taken to."""
    path = _sqlite_path(_config(repo, None))
    return path is None or path.exists()


def applied_specs(store: FeatureStore) -> Applied:
    """Read what was applied, from the registry alone.

    Args:
        store: The opened store.

    Returns:
        All declarations of ours by kind and name, as JSON; empty kinds where nothing was applied. Native Feast
        objects that ``apply`` wrote are listed under "native" by ``{type}:{name}``.
    """
    registry, project = store.registry, store.project
    with registry_errors(_where(store)):
        manifest = _manifest(store)
        return {
            "entities": manifest.get("entities", {}),
            "sources": _specs(registry.list_data_sources(project)),
            "views": _specs(registry.list_feature_views(project)),
            "on_demand": _specs(registry.list_on_demand_feature_views(project)),
            "services": _specs(registry.list_feature_services(project)),
            "pipelines": manifest.get("pipelines", {}),
            "step_pipelines": manifest.get("step_pipelines", {}),
            "native": manifest.get("native", {}),
        }


def plan_project(project: Project, schemas: Mapping[str, pa.Schema], store: FeatureStore | None) -> Diff:
    """Compare a project with what was applied: its declarations, and what the registry made of them.

    Args:
        project: The loaded and checked project.
        schemas: View name -> schema; from ``check_project``.
        store: The opened store; None where there is no registry yet.

    Raises:
        PlanError: The project cannot be expressed in Feast.
        RegistryError: The registry cannot be read.
    """
    wanted = to_feast(project, schemas)
    if store is None:
        return diff({}, project)
    with registry_errors(_where(store)):
        return with_drift(diff(applied_specs(store), project), wanted, store)


def apply_project(project: Project, schemas: Mapping[str, pa.Schema], store: FeatureStore) -> Diff:
    """Write a project to Feast's registry, all of it or nothing, and remove what it no longer declares.

    Args:
        project: The loaded and checked project.
        schemas: View name -> schema; from ``check_project``.
        store: The opened store.

    Returns:
        What changed; false where nothing did, and then nothing was written.

    Raises:
        PlanError: The project cannot be expressed in Feast.
        RegistryError: The registry is locked, read-only or full; it holds what it held before.

    Note:
        Removes only what an earlier apply wrote; what others put into the registry stays.
    """
    changes = plan_project(project, schemas, store)
    if not changes and not project.native and not _manifest(store).get("native"):
        return changes
    wanted = to_feast(project, schemas)
    gone = _gone(store, wanted)
    wanted = [one for one in wanted if not _is_stored_project(one, store)]
    try:
        with one_transaction(store.registry), warnings.catch_warnings():
            # Whether on-demand features are used is the user's decision, taken when they were declared.
            warnings.filterwarnings(
                "ignore", "On demand feature view is an experimental feature", RuntimeWarning
            )
            for name in stale_on_demand(changes):
                store.registry.delete_feature_view(name, store.project, commit=False)
            store.apply(wanted, objects_to_delete=marked_as_removed(gone), partial=False)
    except (FeastError, ValueError, TypeError) as error:
        if isinstance(error, MlcoreError):
            raise
        raise RegistryError(f"Feast refused it: {error}", object=f'project "{project.name}"') from error
    return changes


def _config(repo: Path, clock: str | None) -> RepoConfig:
    file = repo / FILE
    try:
        raw = yaml.safe_load(os.path.expandvars(file.read_text()))
    except FileNotFoundError:
        raise ConfigError(
            "does not exist",
            place=str(file),
            hint="A feature repository needs it; see the getting-started page.",
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"is no YAML: {' '.join(str(error).split())}", place=str(file)) from None
    if not isinstance(raw, dict):
        raise ConfigError("is no mapping of settings", place=str(file))
    registry = raw.get("registry")
    if isinstance(registry, dict) and isinstance(registry.get("path"), str):
        registry["path"] = absolute_url(registry["path"], repo)
    online = raw.get("online_store")
    if clock is not None and isinstance(online, dict) and "." in str(online.get("type", "")):
        online["clock"] = clock  # Feast's own stores, whose types are plain words, have none
    try:
        config = RepoConfig(**raw)
        config.registry  # noqa: B018 (built, and so checked, on first access)
    except (ValidationError, FeastError) as error:
        raise ConfigError(" ".join(str(error).split()), place=str(file)) from None
    config.repo_path = repo
    return config


def _sqlite_path(config: RepoConfig) -> Path | None:
    if config.registry.registry_type != "sql":
        return None
    url = sqlalchemy.make_url(config.registry.path)
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    return Path(url.database.removeprefix("file:"))


def _refuse_missing(path: Path, repo: Path, create: bool) -> None:
    if path.exists():
        return
    if not create:
        raise RegistryError("does not exist", object=f"registry {path}", hint="Run: mlcore apply")
    if not path.parent.exists():
        if not path.is_relative_to(repo.resolve()):
            raise RegistryError(
                "cannot be made, because its folder does not exist",
                object=f"registry {path}",
                hint=f"Make the folder, or change the registry's path in {repo / FILE}.",
            )
        try:
            path.parent.mkdir(parents=True)
        except OSError as error:
            raise RegistryError(f"cannot be made: {error.strerror}", object=f"registry {path}") from error


def _where(store: FeatureStore) -> str:
    path = _sqlite_path(store.config)
    return str(path or store.config.registry.path)


def _manifest(store: FeatureStore) -> dict[str, Any]:
    stored = _stored_project(store)
    manifest: dict[str, Any] = orjson.loads(stored.tags.get(MANIFEST_TAG, "{}")) if stored is not None else {}
    return manifest


def _stored_project(store: FeatureStore) -> FeastProject | None:
    try:
        return store.registry.get_project(store.project, allow_cache=False)
    except ProjectObjectNotFoundException:
        return None


def _specs(objects: list[Any]) -> dict[str, Any]:
    return {one.name: orjson.loads(one.tags[SPEC_TAG]) for one in objects if SPEC_TAG in one.tags}


def _gone(store: FeatureStore, wanted: list[Any]) -> list[Any]:
    """List what an earlier apply wrote and this one does not want, in an order in which it can be deleted."""
    registry, project = store.registry, store.project
    kept = {identity(one) for one in wanted}
    for one in wanted:
        kept |= {identity(source) for source in getattr(one, "source_request_sources", {}).values()}
        kept |= {identity(source) for source in _sources_of(one)}
    wrote = _manifest(store).get("wrote", ())
    present: list[Any] = [
        *registry.list_feature_services(project),
        *registry.list_on_demand_feature_views(project),
        *registry.list_stream_feature_views(project),
        *registry.list_feature_views(project),
        *registry.list_data_sources(project),
        *registry.list_entities(project),
    ]
    return [
        one
        for one in present
        if identity(one) not in kept and (KIND_TAG in one.tags or ":".join(identity(one)) in wrote)
    ]


def _is_stored_project(one: Any, store: FeatureStore) -> bool:
    # Feast compares projects by their timestamps too and would write an unchanged one again.
    if not isinstance(one, FeastProject):
        return False
    stored = _stored_project(store)
    return stored is not None and (stored.name, stored.tags) == (one.name, one.tags)


def _sources_of(one: Any) -> list[DataSource]:
    sources = [getattr(one, name, None) for name in ("batch_source", "stream_source")]
    return [source for source in sources if source is not None]
