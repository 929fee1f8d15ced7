"""What every test of disturbed retrievals needs: a world, its truth, and a way to act in the middle."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import distributed  # noqa: F401  its settings must be there before one is set for a while
import pyarrow as pa
import pytest

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster
from tests.chaos.world import World


@pytest.fixture(scope="package")
def truth(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return World.make(tmp_path_factory.mktemp("truth") / "world").truth()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path / "world")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    # One death is forgiven, the second is the task's fault: Dask's own three only make the tests slow.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        open_cluster(ClusterSettings(workers=2, memory="1GiB")) as client,
    ):
        yield client


class Disturbance:
    """Something done a seeded while after the start; ``in_time`` if the work was still going on."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.in_time = False


@contextmanager
def disturbed(seed: int, within: float, act: Callable[[], object]) -> Iterator[Disturbance]:
    """Do something at a moment that a seed draws from the first ``within`` seconds of the block."""
    told = Disturbance()
    told.delay = random.Random(seed).uniform(0.0, within)
    print(f"seed {seed}: after {told.delay:.3f} s of about {within:.3f} s")
    ended = threading.Event()

    def later() -> None:
        if not ended.wait(told.delay):
            told.in_time = True
            act()

    thread = threading.Thread(target=later)
    thread.start()
    try:
        yield told
    finally:
        ended.set()
        thread.join()


def how_long(work: Callable[[], object]) -> float:
    """Seconds that the undisturbed work takes once everything is warm."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
