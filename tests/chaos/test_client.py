"""The process that asked for a retrieval, interrupted or killed: its workers end, and its files are taken away."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_core.engine.route import OnDask
from tests.chaos.hosts import ROOT, kill
from tests.chaos.world import BUCKETS, World, same_bits

pytestmark = pytest.mark.chaos


@pytest.fixture
def retrieving(world: World) -> Iterator[subprocess.Popen[str]]:
    """A process that retrieves over and over, in a process group of its own as in a terminal."""
    (world.base / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.retrieving", str(world.base)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(world.base / "tmp")},
        start_new_session=True,
    )
    yield process
    kill(process)
    process.stdout.close()
    process.stderr.close()


def at_work(process: subprocess.Popen[str], seed: int) -> list[int]:
    """Wait until it is in the middle of a retrieval; return its workers' numbers."""
    workers = [int(word) for word in process.stdout.readline().split()[1:]]
    assert process.stdout.readline() == "computing\n"
    delay = random.Random(seed).uniform(0.0, 0.5)
    print(f"seed {seed}: {delay:.3f} s into a retrieval")
    time.sleep(delay)
    return workers


def ended(workers: list[int]) -> bool:
    return not any(Path(f"/proc/{worker}").exists() for worker in workers)


@pytest.mark.parametrize("seed", [1, 2])
def test_ctrl_c_ends_the_work_and_its_workers_and_leaves_no_file(world, retrieving, seed):
    workers = at_work(retrieving, seed)

    os.killpg(retrieving.pid, signal.SIGINT)  # as a terminal does: to the workers too
    said = retrieving.communicate(timeout=60)[1]

    assert retrieving.returncode == 130
    assert said == ""
    assert ended(workers)
    assert world.left() == []
    assert list((world.base / "tmp").glob("mlcore-*")) == []


def test_what_a_killed_process_left_is_taken_away_by_the_next_retrieval(world, truth, client, retrieving):
    workers = at_work(retrieving, 3)

    os.kill(retrieving.pid, signal.SIGKILL)
    retrieving.wait(timeout=30)
    for _ in range(300):
        if ended(workers):
            break
        time.sleep(0.1)
    assert ended(workers)  # their nannies' pipes are broken
    assert world.left() != []

    found = world.shards(OnDask(client, world.work, buckets=BUCKETS))

    assert same_bits(found, truth)
    assert world.left() == []
