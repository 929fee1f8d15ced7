"""Where an applied repository keeps rows of its entities: views in the online store, and caches of layouts.

For those who have to find all of them, such as an erasure. It reads the registry and opens the online store; what is
done there is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mlflow_core.algebra.types import dtype_of_arrow
from mlflow_core.config.clock import Clock
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.feast.cluster import cache_of
from mlflow_core.feast.online_store import PackedOnlineStoreConfig, open_backend
from mlflow_core.feast.stored_view import schema_of_stored, stored_view
from mlflow_core.feast.transaction import registry_errors
from mlflow_core.online.backend import OnlineBackend, OnlineTable
from mlflow_core.online.layout import table_of
from mlflow_core.spec import DType

if TYPE_CHECKING:
    from feast import FeatureStore
    from feast.repo_config import RepoConfig

__all__ = ["key_types", "layout_caches", "online_backend", "stored_tables"]


def stored_tables(store: FeatureStore) -> tuple[OnlineTable, ...]:
    """Return where the rows of all applied views are, on-demand views that are written online too.

    Args:
        store: The opened store.

    Raises:
        RegistryError: The registry cannot be read.
    """
    return tuple(table_of(stored_view(view)) for view in _views(store))


def key_types(store: FeatureStore) -> Mapping[str, DType]:
    """Return the type of each key column of the applied views.

    Args:
        store: The opened store.

    Raises:
        RegistryError: The registry cannot be read.
        StoreError: A column has a type that cannot be stored.
    """
    found: dict[str, DType] = {}
    for view in _views(store):
        schema = schema_of_stored(view)
        for name in stored_view(view).keys:
            found.setdefault(name, dtype_of_arrow(name, schema.field(name).type))
    return found


def online_backend(config: RepoConfig, clock: Clock) -> OnlineBackend | None:
    """Open the online store; None where it is none of ours.

    Args:
        config: Feast's configuration.
        clock: Says when keys are erased.

    Raises:
        StoreError: It cannot be opened.
    """
    if not isinstance(config.online_store, PackedOnlineStoreConfig):
        return None
    return open_backend(config, clock)


def layout_caches(config: RepoConfig) -> tuple[Cache, ...]:
    """Return the caches of layouts that stores and engines of a Feast configuration use.

    Args:
        config: Feast's configuration.
    """
    sections = (config.offline_store, config.batch_engine)
    folders = {cache.folder: cache for cache in (cache_of(getattr(one, "workdir", None)) for one in sections)}
    return tuple({cache_of(None).folder: cache_of(None), **folders}.values())


def _views(store: FeatureStore) -> Iterator[Any]:
    with registry_errors(str(store.config.registry.path)):
        found = store.registry.list_all_feature_views(store.project)
    for view in found:
        if getattr(view, "write_to_online_store", True):
            yield view
