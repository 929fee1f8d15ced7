"""A gang in good weather: shares, facts in order, one rank in process or on a worker, and nothing left behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial

import numpy as np
import pytest
from distributed import Client

from mlflow_core.errors import TrainError
from mlflow_core.spec.recovery import Recovery
from mlflow_core.train.gang.gang import Rank, Told, run_gang
from mlflow_core.train.gang.seats import members
from tests.train.gang.counting import Adder, Counting, truth


def test_a_rank_without_a_cluster_runs_in_this_process(tmp_path):
    told: list[Told] = []

    result = run_gang(None, Counting(tmp_path / "kept"), ranks=1, recovery=Recovery(), told=told.append)

    assert result.results == (truth(),)
    assert (result.attempts, result.lost) == (1, ())
    assert [one.facts["at"] for one in told if one.name == "step"] == list(range(40))
    assert {one.facts["pid"] for one in told if one.name == "began"} == {os.getpid()}


def test_ranks_share_the_work_and_tell_in_order(two: Client, left, tmp_path):
    told: list[Told] = []

    result = run_gang(
        two,
        Counting(tmp_path / "kept"),
        ranks=2,
        recovery=Recovery(),
        rendezvous=Adder(),
        told=told.append,
    )

    assert result.results == (truth(), truth())
    for rank in range(2):
        assert [one.facts["at"] for one in told if one.name == "step" and one.rank == rank] == list(range(40))
    assert len({one.facts["pid"] for one in told if one.name == "began"}) == 2
    assert left() == {}


def test_a_rank_alone_on_the_cluster_has_no_rendezvous_and_all_threads_of_its_host(two: Client):
    adder = Adder()

    result = run_gang(two, describe, ranks=1, recovery=Recovery(), rendezvous=adder)

    assert result.results == ({"index": 0, "count": 1, "threads": 2, "attempt": 0, "rendezvous": {}},)
    assert adder.opened == 0


def describe(rank: Rank) -> dict:
    return {
        "index": rank.index,
        "count": rank.count,
        "threads": rank.threads,
        "attempt": rank.attempt,
        "rendezvous": dict(rank.rendezvous),
    }


def test_all_that_was_told_arrives_before_the_result(two: Client):
    heard: list[int] = []

    def told(one: Told) -> None:
        time.sleep(0.001)  # a listener that takes longer than the ranks
        heard.append(one.facts["n"])

    run_gang(two, partial(say, times=2000), ranks=2, recovery=Recovery(), told=told)

    assert sorted(heard) == sorted([*range(2000)] * 2)


def say(rank: Rank, times: int) -> None:
    for n in range(times):
        rank.tell("n", {"n": n})


def test_facts_may_be_told_from_any_thread(two: Client):
    heard: list[Told] = []

    run_gang(two, say_from_a_thread, ranks=1, recovery=Recovery(), told=heard.append)

    assert [one.facts for one in heard] == [{"n": 0}]


def say_from_a_thread(rank: Rank) -> None:
    thread = threading.Thread(target=say, args=(rank, 1))
    thread.start()
    thread.join()


def test_a_fact_that_is_no_json_is_refused_where_it_is_told(two: Client, left):
    with pytest.raises(TrainError, match=r"rank 0 on the worker tcp://.*: TypeError: .*float32.* not JSON"):
        run_gang(two, say_an_array, ranks=1, recovery=Recovery())

    assert left() == {}


def say_an_array(rank: Rank) -> None:
    rank.tell("x", {"x": np.float32(1.0)})


def test_more_ranks_than_workers_are_refused(two: Client):
    with pytest.raises(TrainError, match="3 ranks were asked for, but the cluster has 2 workers"):
        run_gang(two, describe, ranks=3, recovery=Recovery())
    with pytest.raises(TrainError, match="2 workers were asked for, but there is no cluster"):
        run_gang(None, describe, ranks=2, recovery=Recovery())


@pytest.mark.chaos
def test_workers_that_are_about_to_come_are_waited_for(cluster):
    with cluster(2) as client:
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        while len(members(client)) == 2:
            time.sleep(0.01)
        result = run_gang(client, describe, ranks=2, recovery=Recovery())

    assert len(result.results) == 2


def test_what_the_listener_raises_ends_the_gang(two: Client, left, tmp_path):
    def told(one: Told) -> None:
        if one.name == "step":
            raise KeyError("the database is gone")

    with pytest.raises(KeyError, match="the database is gone"):
        run_gang(
            two,
            Counting(tmp_path / "kept", steps=10**6),
            ranks=2,
            recovery=Recovery(),
            rendezvous=Adder(),
            told=told,
        )

    assert left() == {}


def test_ctrl_c_ends_all_ranks_and_leaves_the_checkpoint(two: Client, left, tmp_path):
    steps = Counting(tmp_path / "kept", steps=10**6)

    def told(one: Told) -> None:
        if one.name == "step" and one.facts["at"] > 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_gang(two, steps, ranks=2, recovery=Recovery(), rendezvous=Adder(), told=told)

    assert left() == {}
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    time.sleep(0.3)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == names  # nobody writes any more
    assert len(names) == 2


def test_a_module_of_the_project_is_found_on_workers_that_do_not_know_its_folder(bare, tmp_path, monkeypatch):
    (tmp_path / "towers.py").write_text("def height(rank):\n    return 10 + rank.index\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import towers  # made just now

    with bare(2) as client:
        result = run_gang(client, towers.height, ranks=2, recovery=Recovery(), rendezvous=Adder("towers"))

    assert result.results == (10, 11)


def test_ranks_begin_while_more_is_told_than_anybody_can_hear(two: Client, left):
    """A listener that is slower than the ranks does not keep the gang from seeing that one has failed."""

    def told(one: Told) -> None:
        time.sleep(0.01)

    start = time.monotonic()
    with pytest.raises(TrainError, match="enough said"):
        run_gang(two, chatter, ranks=2, recovery=Recovery(), told=told)

    assert time.monotonic() - start < 30, "to hear all takes 60 s"
    assert left() == {}


def chatter(rank: Rank) -> None:
    for n in range(3000):
        rank.tell("n", {"n": n})
    if rank.index == 1:
        raise TrainError("enough said")
    while not rank.stopped():
        time.sleep(0.01)
