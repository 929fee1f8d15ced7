"""Clusters for the gang: processes with nannies, which start anew what was killed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from distributed import Client, LocalCluster

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster


@contextmanager
def a_cluster(workers: int) -> Iterator[Client]:
    """The product's own local cluster."""
    with open_cluster(ClusterSettings(workers=workers, threads=1, memory="1GiB")) as client:
        yield client


@pytest.fixture(scope="module")
def two() -> Iterator[Client]:
    """Two workers for the tests of a module; whatever a test kills, a nanny brings back."""
    with a_cluster(2) as client:
        yield client


@pytest.fixture
def cluster() -> Callable[..., object]:
    """How to start a cluster of one's own."""
    return a_cluster


@contextmanager
def bare_workers(workers: int, ports: Sequence[str] = ()) -> Iterator[Client]:
    """Workers as processes of their own: with ports, nannies start them anew there; without, nobody does."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-dashboard", "--nthreads", "1"]
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        places = [cluster.scheduler_address, "--host", "127.0.0.1", "--local-directory", folder]
        options = [["--nanny", "--worker-port", port] for port in ports] or [["--no-nanny"]] * workers
        started = [subprocess.Popen([*command, *places, *one], stderr=subprocess.DEVNULL) for one in options]
        try:
            client.wait_for_workers(workers)
            yield client
        finally:
            for one in started:
                one.terminate() if ports else one.kill()
            for one in started:
                one.wait(30)


@pytest.fixture
def bare() -> Callable[..., object]:
    """How to start workers without nannies."""
    return bare_workers


@pytest.fixture
def left(two: Client) -> Callable[[], dict[str, object]]:
    """What a gang has left behind on the cluster of a module: nothing, always."""

    def settled(seconds: float = 5.0) -> dict[str, object]:
        """What is left once the cluster has had time to forget."""
        until = time.monotonic() + seconds
        while any((found := what()).values()) and time.monotonic() < until:
            time.sleep(0.05)
        return {name: kept for name, kept in found.items() if kept}

    def what() -> dict[str, object]:
        def on_scheduler(dask_scheduler: object) -> dict[str, object]:
            topics = [name for name in dask_scheduler._broker._topics if name.startswith("mlcore-gang")]
            return {"tasks": list(dask_scheduler.tasks), "topics": topics}

        def on_worker(dask_worker: object) -> list[str]:
            return [str(key) for key in dask_worker.state.tasks]

        return {
            "futures": list(two.futures),
            "workers": sorted(key for keys in two.run(on_worker).values() for key in keys),
            **two.run_on_scheduler(on_scheduler),
        }

    return settled
