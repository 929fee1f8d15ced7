"""Workers that are killed, or outgrow their memory: the same bits or one clear error, and no files left behind."""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress

import pyarrow as pa
import pytest

from mlflow_core.engine.retrieve import retrieve_to_shards
from mlflow_core.engine.route import OnDask
from mlflow_core.errors import EngineError
from mlflow_core.plan.retrieval import plan_retrieval
from mlflow_core.spec import Entity, FeatureService, FeatureView, ParquetSource
from tests.chaos.conftest import disturbed, how_long
from tests.chaos.greedy import greedy
from tests.chaos.world import BUCKETS, same_bits

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets of workers killed on purpose
]


def kill_one(client, seed):
    """Kill the process of one worker; its nanny starts another."""
    victims = sorted(client.run(os.getpid).values())
    with suppress(ProcessLookupError):
        os.kill(random.Random(seed).choice(victims), signal.SIGKILL)


@pytest.mark.long
def test_a_worker_killed_at_any_moment_costs_time_and_no_bit(world, truth, client):
    route = OnDask(client, world.work, buckets=BUCKETS)
    lasts, hits = how_long(lambda: world.shards(route)), 0

    for seed in range(8):
        client.wait_for_workers(2, timeout=60)
        with disturbed(seed, lasts, lambda seed=seed: kill_one(client, seed)) as disturbance:
            found = world.shards(route)
        hits += disturbance.in_time
        assert same_bits(found, truth), seed
        assert world.left() == [], seed

    assert hits >= 4  # else nothing was tested


def test_a_worker_killed_at_one_moment_costs_time_and_no_bit(world, truth, client):
    route = OnDask(client, world.work, buckets=BUCKETS)
    client.wait_for_workers(2, timeout=60)

    with disturbed(11, 0.3, lambda: kill_one(client, 11)) as disturbance:
        found = world.shards(route)

    assert disturbance.in_time
    assert same_bits(found, truth)
    assert world.left() == []


def outgrowing(world, client, times):
    """Retrieve with a function that outgrows its worker on its first calls."""
    view = FeatureView(
        "v", entity=Entity("k"), source=ParquetSource("events", path="events", event_time="t"), features=["x"]
    )
    rows = world.rows().slice(0, 100)
    flag, n = world.base / "flag", len(rows)
    rows = rows.append_column("flag", pa.array([str(flag)] * n)).append_column("times", pa.array([times] * n))
    client.wait_for_workers(2, timeout=60)
    shards = retrieve_to_shards(
        plan_retrieval(FeatureService("m", [view, greedy])),
        rows,
        base=str(world.base),
        out=world.out,
        route=OnDask(client, world.work, buckets=2),
    )
    return shards, flag


@pytest.mark.long
def test_a_worker_over_its_memory_limit_once_is_started_again_and_the_work_goes_on(world, client):
    shards, flag = outgrowing(world, client, times=1)

    assert len(shards) == 1
    assert len(flag.read_text().split()) == 2
    assert world.left() == []


@pytest.mark.long
def test_a_task_that_always_outgrows_its_worker_is_one_error_that_names_the_remedy(world, client):
    with pytest.raises(
        EngineError, match=r"killed the workers .* use more buckets, or workers with more memory"
    ):
        outgrowing(world, client, times=1_000)

    assert world.left() == []
    assert list(world.out.iterdir()) == []
