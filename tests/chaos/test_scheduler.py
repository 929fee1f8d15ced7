"""A scheduler that is killed, and perhaps started again: the same bits or one clear error, soon, and no files left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.engine.route import OnDask
from mlflow_core.errors import EngineError
from tests.chaos.conftest import disturbed, how_long
from tests.chaos.hosts import Machines, free_port, kill, machines
from tests.chaos.world import BUCKETS, World, same_bits

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets to a scheduler killed on purpose
]
SOON = 60.0  # seconds: twice what Dask's client tries to reconnect for
HOST = "127.0.0.1"


@dataclass
class Running:
    """A scheduler with two workers; all of them can be lost and started again at the same address."""

    machines: Machines
    port: int

    @property
    def address(self) -> str:
        return f"tcp://{HOST}:{self.port}"

    def start(self) -> None:
        self.machines.scheduler(HOST, self.port)
        for _ in range(2):
            self.machines.worker(self.address, HOST)

    def lose(self) -> None:
        kill(
            next(
                one for one in reversed(self.machines.started) if "distributed.cli.dask_scheduler" in one.args
            )
        )


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with machines(tmp_path / "machines") as started:
        running = Running(started, free_port(HOST))
        running.start()
        yield running


def retrieved(world: World, running: Running, seed: int, within: float, act):
    """Retrieve while something happens: the table or the error, after how long, and whether it happened in time."""
    with open_cluster(ClusterSettings(address=running.address)) as client:
        client.wait_for_workers(2, timeout=60)
        start = time.monotonic()
        with disturbed(seed, within, act) as disturbance:
            try:
                found = world.shards(OnDask(client, world.work, buckets=BUCKETS))
            except EngineError as error:
                found = error
        return found, time.monotonic() - start, disturbance.in_time


def lasting(world: World, running: Running) -> float:
    with open_cluster(ClusterSettings(address=running.address)) as client:
        client.wait_for_workers(2, timeout=60)
        return how_long(lambda: world.shards(OnDask(client, world.work, buckets=BUCKETS)))


def check(found, took, world, truth):
    assert took < SOON
    assert world.left() == []
    if isinstance(found, EngineError):
        assert "the Dask cluster went away" in str(found)
        assert not list(world.out.glob("part-*"))
    else:
        assert same_bits(found, truth)


def test_a_scheduler_killed_at_work_is_one_clear_error_soon(world, truth, running):
    found, took, in_time = retrieved(world, running, 1, 0.5, running.lose)

    assert in_time
    assert isinstance(found, EngineError)
    check(found, took, world, truth)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_scheduler_killed_and_started_again_at_any_moment_is_the_same_bits_or_one_clear_error(
    world, truth, running
):
    lasts, hits = lasting(world, running), 0

    def lose_and_start() -> None:
        running.lose()
        running.start()

    for seed in range(4):
        for shard in world.out.glob("part-*"):
            shard.unlink()
        found, took, in_time = retrieved(world, running, seed, lasts, lose_and_start)
        hits += in_time
        check(found, took, world, truth)
        print(
            f"seed {seed}: {found if isinstance(found, EngineError) else 'the same bits'} after {took:.1f} s"
        )

        again, _, _ = retrieved(world, running, seed, 1e6, lambda: None)
        assert same_bits(again, truth), seed

    assert hits >= 2  # else nothing was tested
