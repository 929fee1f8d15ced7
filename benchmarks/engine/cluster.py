"""The cluster that ours, dask.dataframe and the limit all run on: two workers of one thread and 2 GiB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client, default_client

from mlflow_core.config.settings import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster

__all__ = ["two_workers"]


@contextmanager
def two_workers() -> Iterator[Client]:
    """Open the cluster, or go on with the one that is open: at small sizes starting it is all that takes time."""
    try:
        opened = default_client()
    except ValueError:
        opened = None
    if opened is not None:
        yield opened
        return
    with open_cluster(ClusterSettings(workers=2, threads=1, memory="2GiB")) as client:
        yield client
