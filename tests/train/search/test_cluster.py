"""Trials on the workers of a cluster: side by side, ended early there, and tried again when a worker is lost."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from mlflow_core.errors import TrainError
from mlflow_core.spec.search import Choice, CrossValidation, Int, LogFloat, Search
from mlflow_core.spec.trainer import XGBoost
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.pool import Slot, Stopped, open_pool
from mlflow_core.train.search.recorder import Trial
from tests.train.search.searched import SPACE, TRAINER, Mirror, outcomes, search, small_set


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return small_set(tmp_path_factory.mktemp("data"))


def test_one_trial_at_a_time_on_a_cluster_is_the_search_in_this_process(
    data: TrainingData, tmp_path: Path, client: Client
) -> None:
    settings = Search(trials=6, space=SPACE, parallel=1, validation=CrossValidation(folds=2))

    here = search(settings, data, tmp_path / "here")
    there = search(settings, data, tmp_path / "there", client=client)

    assert outcomes(there) == outcomes(here)
    assert {trial.worker for trial in there.trials} <= {*client.scheduler_info()["workers"], None}


def test_trials_run_side_by_side_one_a_worker(data: TrainingData, tmp_path: Path, client: Client) -> None:
    trainer = TRAINER.model_copy(update={"rounds": 300, "workers": 2})
    space = {"max_depth": Int(2, 8), "learning_rate": LogFloat(0.02, 0.5)}
    mirror = Mirror()

    result = search(
        Search(trials=6, space=space, pruner=None),
        data,
        tmp_path,
        trainer=trainer,
        client=client,
        recorder=mirror,
    )

    spans = sorted((trial.started_us, trial.ended_us) for trial in result.trials)
    assert any(start < end for (_, end), (start, _) in itertools.pairwise(spans))
    assert len({trial.worker for trial in result.trials}) == 2
    most = max(sum(a <= start < b for a, b in spans) for start, _ in spans)
    assert most == 2
    assert sorted(mirror.numbers) == list(range(6))
    assert result.trainer.workers == 2
    assert "each trial trains with one rank, the trainer itself with 2" in result.notes


def test_a_trial_that_is_ended_early_ends_on_its_worker(
    data: TrainingData, tmp_path: Path, client: Client
) -> None:
    space = {"learning_rate": Choice([0.3, 1e-9])}
    start = ({"learning_rate": 0.3}, {"learning_rate": 1e-9})
    trainer = XGBoost(rounds=800, max_depth=1, checkpoint_every=800)
    settings = Search(trials=2, space=space, start=start, parallel=1)

    result = search(settings, data, tmp_path, trainer=trainer, client=client)

    _, early = result.trials
    assert [trial.state for trial in result.trials] == ["succeeded", "pruned"]
    assert early.values.keys() == {200}
    assert not list((tmp_path / "work" / "trials").iterdir())


class _Killing(Mirror):
    """Kills a worker that runs, once a trial has ended while another runs."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client, self.killed = client, ""

    def trial(self, trial: Trial) -> None:
        super().trial(trial)
        busy = {at for at, keys in self._client.processing().items() if keys}
        if busy and not self.killed:
            self.killed = min(busy)
            os.kill(self._client.run(os.getpid)[self.killed], signal.SIGKILL)


def test_the_trial_of_a_lost_worker_is_tried_again(data: TrainingData, tmp_path: Path) -> None:
    trainer = TRAINER.model_copy(update={"rounds": 300})
    space = {"max_depth": Int(2, 8), "learning_rate": LogFloat(0.02, 0.5)}
    settings = Search(trials=6, space=space, pruner=None, sampler="random")
    here = search(settings, data, tmp_path / "here", trainer=trainer)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        killing = _Killing(client)

        there = search(settings, data, tmp_path / "there", trainer=trainer, client=client, recorder=killing)

    assert killing.killed
    assert outcomes(there) == outcomes(here)
    assert max(trial.attempts for trial in there.trials) == 2
    assert sorted(killing.numbers) == list(range(6))


@dataclass(frozen=True)
class _Waiting:
    """Waits for being stopped, and leaves a mark when it was."""

    mark: Path

    def __call__(self, slot: Slot) -> None:
        slot.tell("began")
        until = time.monotonic() + 120
        while not slot.stopped() and time.monotonic() < until:
            time.sleep(0.01)
        self.mark.write_text("stopped" if slot.stopped() else "forgotten")
        raise Stopped


def test_a_program_that_is_wanted_no_more_ends_on_its_worker(tmp_path: Path, client: Client) -> None:
    with open_pool(client, parallel=None, told=lambda key, _: pool.stop(key)) as pool:
        pool.start(3, _Waiting(tmp_path / "told"))
        while (ended := pool.wait(0.2)) is None:
            pass
    began: list[int] = []
    with open_pool(client, parallel=None, told=lambda key, _: began.append(key)) as pool:
        pool.start(4, _Waiting(tmp_path / "left"))
        while not began:
            assert pool.wait(0.05) is None

    for mark in ("told", "left"):
        until = time.monotonic() + 60
        while not (tmp_path / mark).exists() and time.monotonic() < until:
            time.sleep(0.01)
        assert (tmp_path / mark).read_text() == "stopped"
    assert (ended.key, ended.stopped, ended.result, ended.error) == (3, True, None, None)


def _deadly(slot: Slot) -> None:
    slot.tell({"threads": slot.threads})
    os.kill(os.getpid(), signal.SIGKILL)


def _well(slot: Slot) -> str:
    slot.tell({"threads": slot.threads})
    return "well"


def _wrong(slot: Slot) -> None:
    raise ZeroDivisionError("a mistake of ours, not of the data")


def test_a_program_that_kills_its_workers_fails_and_the_others_go_on(tmp_path: Path) -> None:
    told: list[tuple[int, Mapping[str, Any]]] = []
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
        open_pool(client, parallel=None, told=lambda key, facts: told.append((key, facts))) as pool,
    ):
        pool.start(0, _deadly)
        ended = []
        while len(ended) < 4:
            if pool.free and pool.running + len(ended) < 4:
                pool.start(pool.running + len(ended), _well)
            if (one := pool.wait(0.2)) is not None:
                ended.append(one)
        pool.start(9, _wrong)
        with pytest.raises(ZeroDivisionError, match="a mistake of ours"):
            while pool.wait(0.2) is None:
                pass

    failed = next(one for one in ended if one.key == 0)
    assert isinstance(failed.error, TrainError)
    assert "its worker was lost 3 times" in str(failed.error)
    assert all(one.result == "well" for one in ended if one.key != 0)
    assert (1, {"threads": 2}) in told
