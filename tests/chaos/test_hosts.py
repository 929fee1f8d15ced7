"""Several hosts: scheduler, workers and the sources' storage on addresses of their own, one worker cut off mid-run.

Each host is a network namespace. Sources are read over HTTP from a host that does nothing else. The folder for drafts
and shards is this machine's and seen by all, as a network file system's mount is; it does not go away with a link.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.engine.route import OnDask
from mlflow_core.errors import EngineError, SourceError
from tests.chaos.conftest import disturbed, how_long
from tests.chaos.hosts import Machines, machines
from tests.chaos.network import Host, network
from tests.chaos.world import BUCKETS, World, same_bits

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets to a host that was cut off on purpose
]
PORT, HTTP_PORT = 8786, 8080
SOON = 120.0  # seconds: several silences of 12 s, one behind the other, on a slow machine


@dataclass
class Site:
    """A cluster on hosts of its own, and the world whose sources lie on another."""

    world: World
    address: str
    machines: Machines
    workers: tuple[Host, Host]

    def ready(self, client) -> OnDask:
        client.wait_for_workers(2, timeout=60)
        return OnDask(client, self.world.work, buckets=BUCKETS)


@pytest.fixture
def site(tmp_path: Path, world: World) -> Iterator[Site]:
    with network(4) as (scheduler, one, two, storage), machines(tmp_path / "machines") as started:
        words = ["-m", "tests.chaos.serve_files", storage.address, str(HTTP_PORT), str(world.base)]
        started.command(storage.inside, [sys.executable, *words])
        started.scheduler(scheduler.address, PORT, scheduler.inside)
        address = f"tcp://{scheduler.address}:{PORT}"
        for host in (one, two):
            started.worker(address, host.address, host.inside)
        one_file(world)
        far = replace(world, source=f"http://{storage.address}:{HTTP_PORT}/events.parquet")
        yield Site(far, address, started, (one, two))


def one_file(world: World) -> None:
    """The same history as one file: a listing over HTTP tells no sizes."""
    files = sorted((world.base / "events").glob("*.parquet"))
    with pq.ParquetWriter(world.base / "events.parquet", pq.read_schema(files[0])) as writer:
        for file in files:
            writer.write_table(pq.read_table(file))


def test_scheduler_workers_and_storage_on_four_hosts_give_the_same_bits(site, truth):
    with open_cluster(ClusterSettings(address=site.address)) as client:
        route = site.ready(client)
        hosts = {address.split("//")[1].split(":")[0] for address in client.nthreads()}

        found = site.world.shards(route)

    assert hosts == {host.address for host in site.workers}
    assert same_bits(found, truth)
    assert site.world.left() == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_worker_cut_off_mid_run_is_the_same_bits_or_one_clear_error(site, truth, seed):
    with open_cluster(ClusterSettings(address=site.address)) as client:
        route = site.ready(client)
        lasts = how_long(lambda: site.world.shards(route))
        start = time.monotonic()

        with disturbed(seed, lasts * 0.7, site.workers[seed % 2].cut_off) as disturbance:
            try:
                found = site.world.shards(route)
            except (EngineError, SourceError) as error:
                found = error
        took = time.monotonic() - start
        print(f"seed {seed}: {found if isinstance(found, Exception) else 'the same bits'} after {took:.1f} s")

        assert took < SOON
        assert disturbance.in_time
        assert isinstance(found, Exception) or same_bits(found, truth)
        assert site.world.left() == []
        assert same_bits(site.world.shards(route), truth)  # the worker that is left goes on
