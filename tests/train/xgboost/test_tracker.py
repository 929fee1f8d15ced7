"""XGBoost's ranks under the gang: they meet, a dead peer wakes the others, and none is left waiting in a sum."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.spec.recovery import Recovery
from mlflow_core.train.gang.gang import Told, run_gang
from mlflow_core.train.gang.rank import Disrupted, Rank
from mlflow_core.train.xgboost.tracker import Tracker


@pytest.fixture(scope="module")
def two() -> Iterator[Client]:
    with open_cluster(ClusterSettings(workers=2, threads=1, memory="2GiB")) as client:
        yield client


@dataclass(frozen=True)
class Summing:
    """Ranks that add up a number each, step by step; in the first attempt one of them dies or leaves the others alone.

    Those that a dead peer has woken leave a file in ``folder``: what they told would not be passed on where the caller
    saw the loss before them, for the attempt is over then.
    """

    folder: Path
    steps: int = 50
    dies_at: int = -1
    leaves_at: int = -1

    def __call__(self, rank: Rank) -> list[float]:
        from xgboost import collective
        from xgboost.core import XGBoostError

        found: list[float] = []
        try:
            with collective.CommunicatorContext(**rank.rendezvous, dmlc_task_id=f"rank-{rank.index:05d}"):
                assert collective.get_rank() == rank.index
                rank.tell("began", {"when": time.time()})
                for step in range(self.steps):
                    if rank.attempt == 0 and rank.index == 1 and step == self.dies_at:
                        rank.tell("dies", {"when": time.time()})
                        time.sleep(0.02)
                        os.kill(os.getpid(), signal.SIGKILL)
                    while rank.index == 1 and step == self.leaves_at and not rank.stopped():
                        rank.tell("waits", {})
                        time.sleep(0.1)
                    total = collective.allreduce(np.array([float(rank.index + step)]), collective.Op.SUM)
                    found.append(float(total[0]))
        except XGBoostError as error:
            (self.folder / f"woken-{rank.index}-{rank.attempt}").touch()
            raise Disrupted(str(error).splitlines()[0]) from error
        return found


def test_ranks_meet_in_their_order(two: Client, tmp_path: Path):
    found = run_gang(two, Summing(tmp_path), ranks=2, recovery=Recovery(), rendezvous=Tracker()).results

    assert found == ([2.0 * step + 1 for step in range(50)],) * 2


@pytest.mark.chaos
def test_a_dead_peer_wakes_the_others_and_they_meet_again(two: Client, tmp_path: Path, record_property):
    told: list[Told] = []

    result = run_gang(
        two,
        Summing(tmp_path, dies_at=20),
        ranks=2,
        recovery=Recovery(),
        rendezvous=Tracker(),
        told=told.append,
    )

    when = {(one.name, one.attempt): one.facts["when"] for one in told}
    record_property("figures", f"{when['began', 1] - when['dies', 0]:.2f} s from SIGKILL to training again")
    assert result.results == ([2.0 * step + 1 for step in range(50)],) * 2
    assert [one.rank for one in result.lost] == [1]
    assert (tmp_path / "woken-0-0").exists()


@pytest.mark.chaos
def test_ranks_that_wait_in_a_sum_are_ended_with_the_gang(two: Client, tmp_path: Path, record_property):
    start = 0.0

    def told(one: Told) -> None:
        nonlocal start
        if one.name == "waits":
            start = time.monotonic()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_gang(
            two,
            Summing(tmp_path, leaves_at=20),
            ranks=2,
            recovery=Recovery(),
            rendezvous=Tracker(),
            told=told,
        )

    record_property("figures", f"ended {time.monotonic() - start:.2f} s after Ctrl-C")
    two.wait_for_workers(2)
    assert (
        run_gang(two, Summing(tmp_path), ranks=2, recovery=Recovery(), rendezvous=Tracker()).results[0][-1]
        == 99.0
    )
