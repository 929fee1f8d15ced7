"""A pool on a cluster whose workers pause, whose scheduler is slow, and which does not know the project's modules."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster
from distributed.core import Status

from mlflow_core.engine.cluster import workers
from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import XGBoost
from mlflow_core.train.gang import roll
from mlflow_core.train.pool import Ended, Pool, Slot, open_pool
from mlflow_core.train.search import run
from tests.train.search.searched import SPACE, Search, search, small_set


@pytest.fixture
def client() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@dataclass(frozen=True)
class _Until:
    """Begins, and ends once a file is there."""

    mark: Path

    def __call__(self, slot: Slot) -> str:
        slot.tell("began")
        while not self.mark.exists() and not slot.stopped():
            time.sleep(0.01)
        return "well"


def _ended(pool: Pool, within: float = 60.0) -> Ended:
    until = time.monotonic() + within
    while time.monotonic() < until:
        if (ended := pool.wait(0.2)) is not None:
            return ended
    raise AssertionError("it has not ended")


def test_a_worker_that_pauses_is_not_lost_and_is_given_nothing_more(tmp_path: Path, client: Client) -> None:
    def become(status: Status) -> None:
        def change(dask_worker: Any) -> None:
            dask_worker.status = status

        client.run(change)

    told: list[Any] = []
    with open_pool(client, parallel=2, told=lambda _, facts: told.append(facts)) as pool:
        assert pool.free
        pool.start(1, _Until(tmp_path / "mark"))
        while not told:
            assert pool.wait(0.05) is None
        become(Status.paused)
        try:
            assert pool.wait(1.5) is None
            assert not pool.free
            (tmp_path / "mark").touch()
            ended = _ended(pool)
        finally:
            become(Status.running)

    assert (ended.result, ended.error, ended.attempts) == ("well", None, 1)


def test_a_scheduler_that_is_slow_for_a_while_ends_nothing(
    tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_pool(client, parallel=None, told=lambda _, __: None) as pool:
        assert pool.free
        pool.start(1, _Until(tmp_path / "mark"))
        with monkeypatch.context() as patch:
            patch.setattr(workers, "_ANSWER_WITHIN_S", 1e-9)
            assert pool.wait(0.6) is None
        (tmp_path / "mark").touch()
        assert _ended(pool).result == "well"
        with monkeypatch.context() as patch:
            patch.setattr(workers, "_ANSWER_WITHIN_S", 1e-9)
            patch.setattr(roll, "_SILENT_S", 0.3)
            with pytest.raises(TrainError, match="the Dask cluster went away"):
                _ended(pool, 10.0)


def test_a_pool_leaves_no_topic_on_the_scheduler(client: Client) -> None:
    def topics(dask_scheduler: Any) -> list[str]:
        return [name for name in dask_scheduler._broker._topics if name.startswith("mlcore-pool")]

    with open_pool(client, parallel=None, told=lambda _, __: None) as pool:
        pool.start(1, _Until(Path(__file__)))
        assert _ended(pool).result == "well"
        assert client.run_on_scheduler(topics)

    time.sleep(0.2)
    assert client.run_on_scheduler(topics) == []


def test_a_module_of_the_project_is_found_on_workers_that_do_not_know_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(1)
        (tmp_path / "pooled.py").write_text("def height(slot):\n    return 10\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        import pooled  # made just now

        with open_pool(client, parallel=None, told=lambda _, __: None, modules=("pooled",)) as pool:
            assert pool.free
            pool.start(1, pooled.height)
            assert _ended(pool).result == 10


def test_a_search_waits_for_workers_that_are_about_to_come(tmp_path: Path) -> None:
    data = small_set(tmp_path / "data")
    with (
        LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        cluster.scale(1)

        found = search(
            Search(trials=1, space=SPACE, pruner=None),
            data,
            tmp_path / "search",
            trainer=XGBoost(rounds=3),
            client=client,
        )

    assert [trial.state for trial in found.trials] == ["succeeded"]


def test_only_who_holds_a_study_cleans_its_folder_and_leaves_no_rows_in_it(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "trials" / "of-a-killed-driver").mkdir(parents=True)
    (work / "folds" / "rows").mkdir(parents=True)

    with run._cleaned(work):
        assert not (work / "trials").exists()
        assert (work / "folds" / "rows").exists()

    assert not (work / "folds").exists()
