"""A pool on a cluster whose workers pause, whose scheduler is slow, and which does not know the project's modules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from distributed import CancelledError, Client, LocalCluster
from distributed.core import Status

from mlflow_core.engine.cluster import workers
from mlflow_core.errors import ClusterLost, TrainError
from mlflow_core.spec.trainer import XGBoost
from mlflow_core.train.gang import roll
from mlflow_core.train.gang.seats import Member
from mlflow_core.train.pool import ClusterPool, Ended, Pool, Slot, open_pool
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


@dataclass
class _Given:
    """A future whose end is given."""

    status: str = "pending"
    result_of: Callable[[], Any] = str

    def result(self, timeout: float) -> Any:
        assert timeout
        if self.status == "cancelled":
            raise CancelledError("scheduler-connection-lost")
        return self.result_of()


@dataclass
class _Handed:
    """A client that hands out futures in an order, and has lost its scheduler where it says so."""

    futures: list[_Given]
    status: str = "running"

    def submit(self, *_call: Any, **_how: Any) -> _Given:
        return self.futures.pop(0)

    def cancel(self, futures: list[_Given]) -> None:
        for one in futures:
            one.status = "cancelled"


def _pool_of(
    client: _Handed,
    monkeypatch: pytest.MonkeyPatch,
    told: Callable[[int, Any], None],
    parallel: int | None = 2,
) -> ClusterPool:
    member = Member("w", threads=2, takes_tasks=True, busy=True, replaceable=False)
    monkeypatch.setattr(roll, "members", lambda _client: {"tcp://w": member})
    pool = ClusterPool(cast(Client, client), parallel, told)
    assert pool.free
    return pool


def test_a_program_whose_scheduler_was_lost_is_not_taken_for_one_whose_worker_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    future = _Given()
    pool = _pool_of(_Handed([future]), monkeypatch, lambda _, __: None)
    pool.start(1, _Until(Path(__file__)))
    future.status = (
        "cancelled"  # as all are when the client loses its scheduler, also if it finds it again at once
    )

    with pytest.raises(ClusterLost, match="went away"):
        pool.wait(0.0)


def test_a_result_that_cannot_be_fetched_is_a_lost_cluster_where_the_scheduler_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable() -> Any:
        raise OSError("nobody answers")

    client = _Handed([_Given("finished", unreachable), _Given()])
    pool = _pool_of(client, monkeypatch, lambda _, __: None)
    pool.start(1, _Until(Path(__file__)))
    assert pool.wait(0.0) is None  # its worker is taken for lost, and it is started again

    pool._running[1].future = cast(Any, _Given("finished", unreachable))
    client.status = "connecting"
    with pytest.raises(ClusterLost, match="went away"):
        pool.wait(0.0)


def test_a_program_that_is_stopped_by_what_another_tells_at_its_end_has_lost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ends() -> Any:
        pool._heard.put("[1, null]")
        return "result", "well"

    pool = _pool_of(_Handed([_Given("finished", ends), _Given()]), monkeypatch, lambda _, __: pool.stop(2))
    pool.start(1, _Until(Path(__file__)))
    pool.start(2, _Until(Path(__file__)))

    ended = {one.key: one for _ in range(2) if (one := pool.wait(0.0)) is not None}

    assert (ended[1].result, ended[2].stopped) == ("well", True)


def test_where_another_worker_was_lost_a_program_waits_and_does_not_share_the_one_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = (
        _Given("finished", lambda: ("result", "well")),
        _Given("finished", lambda: ("result", "too")),
    )
    client = _Handed([first, second])
    pool = _pool_of(client, monkeypatch, lambda _, __: None, parallel=None)
    first.status = "pending"
    pool.start(1, _Until(Path(__file__)))
    pool.start(2, _Until(Path(__file__)))
    assert pool.wait(0.0) is None
    assert client.futures == [second], "it was not given to the worker that has one"

    first.status = "finished"
    assert _ended(pool).result == "well"
    assert _ended(pool).result == "too"


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
