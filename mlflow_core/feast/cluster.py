"""Where a store or engine of Feast's configuration computes: in process, on this machine's cores, or on a cluster."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints

from mlflow_core.config.settings import ClusterSettings
from mlflow_core.engine.cluster import open_cluster
from mlflow_core.engine.route import InProcess, OnDask, Route

__all__ = ["ClusterName", "open_route"]

ClusterName = Annotated[str, StringConstraints(pattern=r"^(in-process|local|(tcp|tls|ws|wss|ucx)://.+)$")]
"""``in-process``, ``local`` (a cluster of this machine's cores) or a scheduler's address, ``tcp://host:port``."""


@contextmanager
def open_route(cluster: str, *, workdir: str | None = None) -> Iterator[Route]:
    """Open the route that a configuration names, and close the cluster that was opened for it.

    Args:
        cluster: See ``ClusterName``.
        workdir: A folder that all workers reach, for the files of the run; by default this machine's own.

    Yields:
        The route.

    Raises:
        EngineError: Nobody answers at the address.
    """
    if cluster == "in-process":
        yield InProcess()
        return
    address = None if cluster == "local" else cluster
    with (
        open_cluster(ClusterSettings(address=address)) as client,
        tempfile.TemporaryDirectory(prefix="mlcore-route-", dir=workdir) as folder,
    ):
        yield OnDask(client, Path(folder))
