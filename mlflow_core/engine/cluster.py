"""Clusters: a Dask client for the configured place, a local one made for the purpose where none is named."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow_core.config.settings import ClusterSettings
from mlflow_core.errors import EngineError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["WORKER_ENVIRONMENT", "local_size", "open_cluster"]

_GIB = 1 << 30
_CONNECT_WITHIN = "20s"

# Dask's own trim threshold of 64 KiB slows allocating code by half (measured: torch 1.35 to 2.8 times); one
# thread for each library, because each worker is one of several processes.
WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def local_size(cores: int, memory: int) -> tuple[int, int]:
    """Return how many workers fit on a machine, and how many bytes each may use.

    Args:
        cores: Processors.
        memory: Bytes.

    Example:
        >>> local_size(2, 8 << 30)
        (2, 3435973836)
    """
    usable = int(memory * 0.8)
    workers = max(1, min(cores, usable // (2 * _GIB)))
    return workers, usable // workers


@contextmanager
def open_cluster(settings: ClusterSettings) -> Iterator[Client]:
    """Open a client for the configured cluster, and close what was opened.

    Args:
        settings: An address of a running scheduler, or the size of a cluster of processes on this machine,
            which listens on the loopback only and has no dashboard.

    Yields:
        A client.

    Raises:
        EngineError: Nobody answers at the address, or the workers do not start.
    """
    import dask
    from dask.system import CPU_COUNT
    from distributed import Client, LocalCluster
    from distributed.system import MEMORY_LIMIT

    if settings.address is not None:
        try:
            client = Client(settings.address, timeout=_CONNECT_WITHIN)
        except (OSError, TimeoutError) as error:
            raise EngineError(f"no Dask scheduler answers at {settings.address}: {error}") from error
        with client:
            yield client
        return
    workers, memory = local_size(CPU_COUNT, MEMORY_LIMIT)
    if settings.workers is not None:
        memory = memory * workers // settings.workers
        workers = settings.workers
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT}),
        tempfile.TemporaryDirectory(prefix=f"mlcore-workers-{os.getpid()}-") as scratch,
        LocalCluster(
            n_workers=workers,
            threads_per_worker=settings.threads or 1,
            memory_limit=settings.memory or memory,
            processes=True,
            host="127.0.0.1",
            # Without an address Dask opens its HTTP server on all interfaces at a fixed port.
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            local_directory=scratch,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
