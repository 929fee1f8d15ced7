"""Clusters: a Dask client for the configured place, a local one made for the purpose where none is named."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.config.secret import reveal
from mlflow_core.config.times import parse_duration
from mlflow_core.engine.cluster.environment import WORKER_ENVIRONMENT
from mlflow_core.engine.cluster.noted import address_of_standing, is_standing
from mlflow_core.engine.cluster.profiles import client_of_profile
from mlflow_core.engine.files.drafts import draft_folder
from mlflow_core.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from distributed import Client, LocalCluster, Security

__all__ = ["WORKER_ENVIRONMENT", "local_size", "open_cluster"]

_GIB = 1 << 30
_CONNECT_WITHIN_S = 20


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
        settings: An address of a running scheduler, or a profile with the size of the cluster to start. Processes on
            this machine listen on the loopback only, without a dashboard.

    Yields:
        A client; with a profile, one of whose workers has started.

    Raises:
        ConfigError: A profile's extra is not installed, an option is unknown, or certificates are incomplete.
        EngineError: Nobody answers at the address, or no worker starts in time.

    Example:
        >>> with open_cluster(ClusterSettings(workers=1, memory="1GiB")) as client:
        ...     client.submit(sum, [1, 2]).result()
        3
    """
    with ExitStack() as opened:
        client = opened.enter_context(_client(settings))
        if settings.performance_report is not None:
            opened.enter_context(_report(client, Path(settings.performance_report)))
        yield client


def _client(settings: ClusterSettings) -> AbstractContextManager[Client]:
    security = _security(settings)
    if settings.address is not None:
        address = reveal(settings.address)
        return _connected(address_of_standing(address) if is_standing(address) else address, security)
    if settings.profile == "local":
        return _on_this_machine(settings)
    return _started(settings, security)


def _connected(address: str, security: Security | None) -> Client:
    from distributed import Client

    try:
        asyncio.run(_greeted(address, security))
        return Client(address, timeout=_CONNECT_WITHIN_S, security=security)
    except (OSError, TimeoutError, TypeError, ValueError) as error:
        reason = str(error) or f"silent for {_CONNECT_WITHIN_S} s"
        raise EngineError(f"no Dask scheduler answers at {address}: {reason}") from error


async def _greeted(address: str, security: Security | None) -> None:
    """Make sure that a Dask server answers: a client would wait for ever where somebody listens and is silent."""
    from distributed import Security
    from distributed.comm.core import connect

    arguments = (security or Security()).get_connection_args("client")
    comm = await asyncio.wait_for(
        connect(address, timeout=_CONNECT_WITHIN_S, **arguments), timeout=_CONNECT_WITHIN_S
    )
    comm.abort()


@contextmanager
def _on_this_machine(settings: ClusterSettings) -> Iterator[Client]:
    import dask
    from dask.system import CPU_COUNT
    from distributed import Client
    from distributed.system import MEMORY_LIMIT

    workers, memory = local_size(CPU_COUNT, MEMORY_LIMIT)
    if settings.workers is not None:
        memory = memory * workers // settings.workers
        workers = settings.workers
    with (
        _ended_without_a_word(),
        dask.config.set(
            {
                "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
                # Looking at each worker's stack a hundred times a second takes time from its work.
                "distributed.worker.profile.enabled": settings.performance_report is not None,
                "distributed.admin.tick.interval": "500ms",
                # So long after a worker was lost Dask looks once whether it is back, and ends its nanny if it is not:
                # also if it is just being started again because it was lost another time.
                "distributed.deploy.lost-worker-timeout": "1h",
            }
        ),
        draft_folder(Path(tempfile.gettempdir()), "mlcore-workers") as scratch,
        _local_cluster(
            n_workers=workers,
            threads_per_worker=settings.threads or 1,
            memory_limit=settings.memory or memory,
            processes=True,
            host="127.0.0.1",
            # Without an address Dask opens its HTTP server on all interfaces at a fixed port.
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            local_directory=str(scratch),
            preload=["mlflow_core.engine.cluster.environment"],
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def _ended_without_a_word() -> Iterator[None]:
    """Keep nannies from a warning at the end: a task that was cancelled may run on, and is then killed on purpose."""
    nanny = logging.getLogger("distributed.nanny")
    nanny.addFilter(_is_no_farewell)
    try:
        yield
    finally:
        nanny.removeFilter(_is_no_farewell)


def _is_no_farewell(record: logging.LogRecord) -> bool:
    return "still alive after" not in record.getMessage()


def _local_cluster(**arguments: Any) -> LocalCluster:
    from distributed import LocalCluster

    try:
        return LocalCluster(**arguments)
    except RuntimeError as error:
        raise EngineError(
            f"the worker processes do not start: {error}",
            hint='A script that starts a cluster must do so below: if __name__ == "__main__".',
        ) from error


@contextmanager
def _started(settings: ClusterSettings, security: Security | None) -> Iterator[Client]:
    with client_of_profile(settings, security) as client:
        try:
            client.wait_for_workers(1, timeout=parse_duration(settings.start_within) / 1e6)
        except TimeoutError as error:
            raise EngineError(
                f"no worker has started within {settings.start_within}",
                object=f'cluster profile "{settings.profile}"',
                hint="Look at the queue and at the workers' logs, or set a longer cluster.start_within.",
            ) from error
        yield client


def _security(settings: ClusterSettings) -> Security | None:
    names = ("tls_ca", "tls_cert", "tls_key")
    said = {name: reveal(text) for name in names if (text := getattr(settings, name)) is not None}
    if not said:
        return None
    if missing := [name for name in names if name not in said]:
        raise ConfigError(
            f"cluster.{' and cluster.'.join(missing)} not set",
            expected="all of cluster.tls_ca, cluster.tls_cert and cluster.tls_key, or none",
        )
    for name, text in said.items():
        if "\n" not in text and not Path(text).is_file():  # else it is the certificate itself
            raise ConfigError(f"there is no file {text}", place=f"cluster.{name}")
    from distributed import Security

    ours = {
        f"tls_{who}_{what}": said[f"tls_{what}"]
        for who in ("client", "scheduler", "worker")
        for what in ("cert", "key")
    }
    return Security(tls_ca_file=said["tls_ca"], require_encryption=True, **ours)


@contextmanager
def _report(client: Client, file: Path) -> Iterator[None]:
    """Let Dask write its report on what happens meanwhile; also where that fails, for that is when it is read."""
    from distributed import performance_report

    try:
        import bokeh  # noqa: F401  the library that Dask draws it with
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the package bokeh is not installed, and Dask draws its performance report with it",
            hint="Run: pip install 'mlflow-core[performance-report]'",
        ) from error
    if not file.parent.is_dir():
        raise ConfigError(f"there is no folder {file.parent} for the performance report")
    with client.as_current(), performance_report(filename=str(file)):
        yield
