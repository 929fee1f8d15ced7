"""Which online store a configuration names for reading, and the form of its rows: ours, or one that Feast wrote."""

from __future__ import annotations

from typing import Any

from feast.repo_config import RepoConfig

from mlflow_core.config.clock import Clock
from mlflow_core.errors import ConfigError
from mlflow_core.feast.online_store import PackedOnlineStoreConfig, open_backend
from mlflow_core.online.backend import OnlineBackend
from mlflow_core.online.feast_layout.form import FeastForm
from mlflow_core.online.form import Packed, StoredForm

__all__ = ["open_served_store"]

_PACKED = "mlflow_core.feast.online_store.PackedOnlineStore"


def open_served_store(config: RepoConfig, clock: Clock) -> tuple[OnlineBackend, StoredForm]:
    """Open the online store of a Feast configuration for reading.

    Args:
        config: Feast's configuration, with our store or Feast's own on Redis (``online_store.type: redis``).
        clock: Says when a key is erased, in ours.

    Returns:
        The store, and how its rows are spelt. Feast's own is read only.

    Raises:
        ConfigError: It is another store, or one that is set up in a way that cannot be read.
    """
    section: Any = config.online_store
    if isinstance(section, PackedOnlineStoreConfig):
        return open_backend(config, clock), Packed()
    kind = getattr(section, "type", None)
    if kind != "redis":
        raise _unreadable(f'type is "{kind}"', expected=f"{_PACKED} or redis")
    if config.registry.enable_online_feature_view_versioning:
        raise _unreadable(
            "rows of each version of a view stand apart (registry.enable_online_feature_view_versioning)",
            expected="rows of one version of each view",
        )
    redis_type = str(section.redis_type.value)
    if redis_type not in ("redis", "redis_cluster"):
        raise _unreadable(f'redis_type is "{redis_type}"', expected="redis or redis_cluster")
    form = FeastForm(config.entity_key_serialization_version)
    # The client of Redis is an extra: it is imported only where Redis is named.
    from mlflow_core.online.redis.feast_layout import FeastRedisBackend

    cluster = redis_type == "redis_cluster"
    return FeastRedisBackend(section.connection_string, config.project, cluster=cluster), form


def _unreadable(what: str, expected: str) -> ConfigError:
    return ConfigError(what, object="online_store", place="feature_store.yaml", expected=expected)
