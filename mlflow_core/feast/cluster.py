"""Where a store or engine of Feast's configuration computes: in process, on this machine's cores, or on a cluster."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationError

from mlflow_core.config.cluster import PROFILES, ClusterSettings
from mlflow_core.config.secret import resolve_in
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.engine.files.drafts import draft_folder
from mlflow_core.engine.layouts.cache import Cache, user_cache
from mlflow_core.engine.route import InProcess, OnDask, Route
from mlflow_core.errors import ConfigError, MlcoreError, UsageError, nearest

__all__ = ["IN_PROCESS", "ClusterName", "cache_of", "cluster_settings", "open_route"]

IN_PROCESS = "in-process"


def cluster_settings(cluster: str | Mapping[str, Any], *, base: str = ".") -> ClusterSettings:
    """Read what ``cluster:`` says in ``feature_store.yaml``.

    Args:
        cluster: A profile's name, a scheduler's address, or a table with the keys of ``[cluster]``, e.g.
            ``{profile: slurm, workers: 8, memory: 4GiB, options: {queue: short}}``.
        base: The folder that relative paths of certificates and secrets start from.

    Raises:
        ConfigError: It says what no cluster is.
    """
    table = {"profile": cluster} if isinstance(cluster, str) else dict(cluster)
    if isinstance(cluster, str) and "://" in cluster:
        table = {"address": cluster}
    elif isinstance(cluster, str) and cluster not in PROFILES:
        raise ConfigError(
            f'there is no cluster "{cluster}"',
            hint=nearest(cluster, [IN_PROCESS, *PROFILES, "tcp://host:port"]),
        )
    for name in table:
        if name not in ClusterSettings.model_fields:
            raise ConfigError(
                f"cluster.{name}: no such key", hint=nearest(name, ClusterSettings.model_fields)
            )
    resolved: Any = resolve_in(table, Path(base))
    try:
        return ClusterSettings(**resolved)
    except ValidationError as invalid:
        told = "; ".join(
            f"cluster.{'.'.join(map(str, one['loc']))}: {one['msg']}"
            for one in invalid.errors(include_url=False, include_context=False, include_input=False)
        )
        raise ConfigError(told) from invalid


def _checked(cluster: Any) -> Any:
    if cluster != IN_PROCESS:
        if not isinstance(cluster, str | Mapping):
            raise ValueError("expected a name, an address, or a table with the keys of [cluster]")
        try:
            cluster_settings(cluster)
        except MlcoreError as error:
            raise ValueError(str(error)) from error
    return cluster


ClusterName = Annotated[str | dict[str, Any], BeforeValidator(_checked)]
"""``in-process``, a profile such as ``local``, a scheduler's address ``tcp://host:port``, or a table as in [cluster]."""


def cache_of(workdir: str | None) -> Cache:
    """Return where the layouts of a route are kept.

    Args:
        workdir: As for ``open_route``.
    """
    return Cache(Path(workdir) / "layouts" if workdir else user_cache())


@contextmanager
def open_route(
    cluster: str | Mapping[str, Any],
    *,
    workdir: str | None = None,
    base: str = ".",
    performance_report: str | None = None,
) -> Iterator[Route]:
    """Open the route that a configuration names, and close the cluster that was opened for it.

    Args:
        cluster: See ``ClusterName``.
        workdir: A folder that all workers reach, for the files of the run and the cache of layouts, which stays; by
            default this machine's own temporary files and the user's cache.
        base: The folder that relative paths in the cluster's table start from.
        performance_report: A file for Dask's report on the work; None for what the table says.

    Yields:
        The route.

    Raises:
        ConfigError: It says what no cluster is.
        EngineError: Nobody answers at the address, or no worker starts.
        UsageError: A performance report is asked for of work without a cluster.
    """
    if cluster == IN_PROCESS:
        if performance_report is not None:
            raise UsageError(
                "there is no cluster to report on: the work is done in this process",
                hint="Set cluster: local in feature_store.yaml.",
            )
        yield InProcess(cache=Cache(Path(workdir) / "layouts") if workdir else None)
        return
    settings = cluster_settings(cluster, base=base)
    if performance_report is not None:
        settings = settings.model_copy(update={"performance_report": performance_report})
    with (
        open_cluster(settings) as client,
        draft_folder(Path(workdir or tempfile.gettempdir()), "mlcore-route") as folder,
    ):
        yield OnDask(client, folder, cache=cache_of(workdir))
