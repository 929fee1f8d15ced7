"""A gang in bad weather: workers killed at any moment, paused, replaced or not; the total is always the undisturbed one."""

from __future__ import annotations

import random
import re
import socket
import time
from pathlib import Path

import dask
import pytest
from distributed import Client

from mlflow_core.errors import TrainError
from mlflow_core.spec.recovery import Recovery
from mlflow_core.train.gang.gang import GangResult, Told, run_gang
from mlflow_core.train.gang.rank import CHECKPOINT
from tests.train.gang.counting import Adder, Counting, Disaster, truth

pytestmark = pytest.mark.chaos
SEED = 5
PLACES = ("load", "first", "middle", "write", "last")


def moments() -> list[Disaster]:
    """Ten of them, two of each kind, where it can be on either rank: when exactly is drawn."""
    draw = random.Random(SEED)
    made, first, writes = [], draw.randrange(2), draw.sample(range(4, 39, 5), 2)
    for number in range(10):
        place, rank = PLACES[number % 5], (number // 5 + first) % 2
        match place:
            case "load":
                made.append(Disaster(rank, "load"))
            case "first":
                made.append(Disaster(rank, "step", 0))
            case "middle":
                made.append(Disaster(rank, "step", draw.randrange(6, 34)))
            case "write":  # only rank 0 writes; every fifth step
                made.append(Disaster(0, "write", writes.pop()))
            case "last":
                made.append(Disaster(rank, "step", 39))
    return made


def run(
    client: Client, program: Counting, ranks: int = 2, **recovery: object
) -> tuple[GangResult, list[Told]]:
    told: list[Told] = []
    result = run_gang(
        client,
        program,
        ranks=ranks,
        recovery=Recovery(**recovery),
        rendezvous=Adder(),
        told=told.append,
    )
    return result, told


@pytest.mark.parametrize("disaster", moments(), ids=lambda one: f"{one.place}-{one.step}-rank{one.rank}")
def test_a_worker_killed_at_any_moment_costs_the_work_since_the_last_checkpoint(
    two: Client, left, tmp_path: Path, disaster: Disaster
):
    print(f"seed {SEED}: {disaster}")

    result, told = run(two, Counting(tmp_path / "kept", disasters=(disaster,)), shrink=False)

    assert result.results == (truth(), truth())
    assert result.attempts == 2
    assert [one.rank for one in result.lost] == [disaster.rank]
    written = [one.facts["at"] for one in told if one.name == CHECKPOINT and one.attempt == 0]
    again = {one.facts["at"] for one in told if one.name == "began" and one.attempt == 1}
    assert again == {max(written, default=0)}
    assert left() == {}
    assert (
        sorted(path.suffix for path in (tmp_path / "kept").iterdir() if path.suffix != ".part")
        == [".checkpoint"] * 2
    )


def test_where_nobody_comes_back_the_gang_goes_on_with_fewer(bare, tmp_path: Path):
    with bare(3) as client:
        program = Counting(tmp_path / "kept", disasters=(Disaster(1, "step", 12),))
        result, told = run(client, program, ranks=3, replace_within="500ms")

    assert result.results == (truth(), truth())
    assert {one.facts["count"] for one in told if one.name == "began" and one.attempt == 1} == {2}
    assert {one.facts["at"] for one in told if one.name == "began" and one.attempt == 1} == {10}


def test_a_gang_that_may_not_shrink_says_what_was_lost_and_what_to_do(bare, tmp_path: Path):
    with bare(2) as client:
        program = Counting(tmp_path / "kept", disasters=(Disaster(1, "step", 12),))
        with pytest.raises(TrainError) as told:
            run(client, program, replace_within="500ms", shrink=False)

    assert re.search(
        r"the worker tcp://\S+ of rank 1 was lost while it trained: no worker came in its place within 500ms; "
        r"the last checkpoint is at 10\. Run it again with the same checkpoints",
        str(told.value),
    )


def test_losses_beyond_what_recovery_allows_end_the_gang(two: Client, left, tmp_path: Path):
    program = Counting(tmp_path / "kept", disasters=(Disaster(0, "step", 7),))

    with pytest.raises(
        TrainError, match=r"of rank 0 was lost while it trained: .*; the last checkpoint is at 5"
    ):
        run(two, program, restarts=0)

    two.wait_for_workers(2)
    assert left() == {}
    result, told = run(two, Counting(tmp_path / "kept"))
    assert result.results == (truth(), truth())
    assert {one.facts["at"] for one in told if one.name == "began"} == {5}


def test_both_workers_killed_at_once_are_two_losses(two: Client, tmp_path: Path):
    program = Counting(tmp_path / "kept", disasters=(Disaster(0, "step", 22), Disaster(1, "step", 22)))

    result, _ = run(two, program, shrink=False)

    assert result.results == (truth(), truth())
    assert sorted(one.rank for one in result.lost) == [0, 1]


def test_a_process_that_ends_itself_is_a_lost_worker(two: Client, tmp_path: Path):
    program = Counting(tmp_path / "kept", disasters=(Disaster(1, "step", 22, "exit"),))

    result, _ = run(two, program, shrink=False)

    assert result.results == (truth(), truth())
    assert len(result.lost) == 1


def test_ranks_that_lose_each_other_start_again_without_a_lost_worker(two: Client, left, tmp_path: Path):
    program = Counting(tmp_path / "kept", disasters=(Disaster(1, "step", 22, "disrupted"),))

    result, told = run(two, program)

    assert result.results == (truth(), truth())
    assert (result.attempts, result.lost) == (2, ())
    assert {one.facts["at"] for one in told if one.name == "began" and one.attempt == 1} == {20}
    assert left() == {}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("error", r"^step 12: the loss is NaN$"),
        ("bug", r"^rank 1 on the worker tcp://\S+: ZeroDivisionError: a bug"),
        ("memory", r"^rank 1 on the worker tcp://\S+: there is no memory left\. Give workers more memory"),
        ("disk", r"^rank 1 on the worker tcp://\S+: the disk is full\. Free some space"),
    ],
)
def test_what_starting_again_would_not_mend_is_told_at_once(
    two: Client, left, tmp_path: Path, kind: str, message: str
):
    program = Counting(tmp_path / "kept", disasters=(Disaster(1, "step", 12, kind),))
    start = time.monotonic()

    with pytest.raises(TrainError, match=message):
        run(two, program)

    assert time.monotonic() - start < 20, "nobody waits for a replacement, which may take 30 s"
    assert left() == {}


def test_a_rank_that_hears_nothing_has_its_worker_started_anew(two: Client, left, tmp_path: Path):
    program = Counting(tmp_path / "kept", disasters=(Disaster(1, "step", 12),), clings=True)

    result, _ = run(two, program, shrink=False)

    assert result.results == (truth(), truth())
    assert left() == {}


def test_a_paused_worker_is_lost_once_its_heartbeat_fails(cluster, tmp_path: Path, record_property):
    with dask.config.set({"distributed.scheduler.worker-ttl": "2s"}), cluster(2) as client:
        program = Counting(tmp_path / "kept", disasters=(Disaster(1, "step", 12, "stop"),))
        start = time.monotonic()
        result, told = run(client, program, shrink=False)
    record_property("figures", f"a paused worker was replaced, {time.monotonic() - start:.1f} s in all")

    assert result.results == (truth(), truth())
    assert [one.rank for one in result.lost] == [1]
    assert {one.facts["at"] for one in told if one.name == "began" and one.attempt == 1} == {10}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("this is no Python", "SyntaxError"),
        ("raise RuntimeError('no GPU')", "RuntimeError: no GPU"),
    ],
)
def test_a_module_that_fails_on_a_worker_is_named_with_the_worker(
    two: Client, left, tmp_path: Path, text: str, why: str
):
    (tmp_path / f"broken{abs(hash(text))}.py").write_text(text)
    two.run(lambda: __import__("sys").path.append(str(tmp_path)))

    with pytest.raises(TrainError) as told:
        run_gang(
            two,
            Counting(tmp_path / "kept"),
            ranks=2,
            recovery=Recovery(),
            rendezvous=Adder("json", f"broken{abs(hash(text))}"),
        )

    assert re.match(
        rf'the module "broken\d+" cannot be imported on the worker tcp://\S+: {why}', str(told.value)
    )
    assert left() == {}


def test_a_worker_whose_thread_is_taken_by_an_orphan_is_started_anew(cluster, tmp_path: Path):
    """A rank that heard nothing of its caller's end: the scheduler knows nothing of it, the thread is not free."""
    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": "2s"}),
        cluster(2) as client,
    ):
        where = sorted(client.scheduler_info(n_workers=-1)["workers"])[0]
        orphan = client.submit(time.sleep, 3600, workers=[where])
        while not any(client.processing().values()):
            time.sleep(0.01)
        orphan.cancel()
        result, _ = run(client, Counting(tmp_path / "kept"), shrink=False)

    assert result.results == (truth(), truth())
    assert (result.attempts, result.lost) == (2, ())


def test_a_worker_started_anew_at_the_same_address_is_not_the_same(bare, tmp_path: Path):
    with bare(2, ports=free_ports(2)) as client:
        before = set(client.scheduler_info(n_workers=-1)["workers"])
        program = Counting(tmp_path / "kept", disasters=(Disaster(1, "step", 12),))
        result, _ = run(client, program, shrink=False)
        after = set(client.scheduler_info(n_workers=-1)["workers"])

    assert before == after
    assert result.results == (truth(), truth())
    assert result.attempts == 2


def free_ports(count: int) -> list[str]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports
