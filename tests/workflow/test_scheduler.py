"""Schedulers as processes: what is due is started once by one of them, made up for once, and never outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlflow_core.config import FixedClock, Principal
from mlflow_core.errors import MetadataError
from mlflow_core.metadata import MetadataStore
from mlflow_core.plan.project import Project
from mlflow_core.spec import Pipeline, Schedule, step
from mlflow_core.workflow.schedule.child import Child
from mlflow_core.workflow.schedule.declared import apply_schedules
from tests.workflow.scheduling import now_us, process, scheduler, starts, wait_for

ROOT = Path(__file__).resolve().parents[2]
DAY = 86_400_000_000
HOUR = 3_600_000_000


@step
def nothing() -> int:
    return 0


def store(folder: Path) -> MetadataStore:
    return MetadataStore(
        f"sqlite:///{folder}/metadata.db", FixedClock(now_us()), Principal("test"), project="shop"
    )


def put(folder: Path, *names: str, ago_us: int = HOUR, cron: str = "0 6 * * *") -> None:
    with store(folder) as kept:
        for name in names:
            kept.put_schedule(name, pipeline=name, cron=cron, zone="UTC", next_us=now_us() - ago_us)


def pid_of(folder: Path, name: str) -> int:
    lines = (folder / "starts").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.split()[0] == name)


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def test_two_schedulers_start_everything_once(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    names = [f"p{number}" for number in range(6)]
    put(tmp_path, *names)
    both = [process(started, tmp_path, "once", seconds=0.2) for _ in range(2)]

    (tmp_path / "go").touch()

    assert [one.wait(60) for one in both] == [0, 0]
    assert sorted(starts(tmp_path)) == names
    with store(tmp_path) as kept:
        assert {one.lease_owner for one in kept.list_schedules()} == {None}
        assert all((one.next_us or 0) > now_us() for one in kept.list_schedules())


def test_a_lease_is_renewed_while_a_pipeline_runs_longer_than_it(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    put(tmp_path, "long")
    first = process(started, tmp_path, "on", seconds=10, lease_s=4)
    wait_for(lambda: starts(tmp_path) == ["long"])
    second = process(started, tmp_path, "on", seconds=10, lease_s=4)
    time.sleep(6)

    assert starts(tmp_path) == ["long"]

    for one in (first, second):
        one.terminate()
    assert [one.wait(30) for one in (first, second)] == [0, 0]


def test_what_was_missed_is_made_up_for_once_and_said(tmp_path: Path) -> None:
    put(tmp_path, "late", ago_us=5 * DAY, cron="0 * * * *")
    made = scheduler(tmp_path)

    ended = made.run(threading.Event(), once=True)
    again = made.run(threading.Event(), once=True)

    assert [(one.schedule, one.missed in (119, 120, 121), one.status) for one in ended] == [("late", True, 0)]
    assert again == ended  # nothing was added: what is due next is in the future
    assert starts(tmp_path) == ["late"]
    said = (tmp_path / f"said-{os.getpid()}").read_text()
    assert "more times since, which this run makes up for" in said
    assert now_us() < (made.metadata.get_schedule("late").next_us or 0) <= now_us() + HOUR
    made.metadata.close()


def test_a_pipeline_that_fails_leaves_its_message_and_is_due_again_at_its_next_time(tmp_path: Path) -> None:
    put(tmp_path, "bad")
    made = scheduler(tmp_path)

    (ended,) = made.run(threading.Event(), once=True)

    one = made.metadata.get_schedule("bad")
    assert (ended.status, ended.error, one.last_error) == (1, "the source is empty", "the source is empty")
    assert (one.next_us or 0) > now_us()
    made.metadata.close()


def test_asked_to_end_a_scheduler_interrupts_what_runs_and_leaves_it_due(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    put(tmp_path, "long")
    one = process(started, tmp_path, "on", seconds=60)
    wait_for(lambda: starts(tmp_path) == ["long"])

    one.send_signal(signal.SIGTERM)

    assert one.wait(30) == 0
    assert (tmp_path / "interrupted").read_text() == "long\n"
    assert is_gone(pid_of(tmp_path, "long"))
    with store(tmp_path) as kept:
        left = kept.get_schedule("long")
    assert (left.lease_owner, left.last_error) == (None, "interrupted, because its scheduler was ended")
    assert (left.next_us or 0) < now_us()


@pytest.mark.chaos
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends a child with its parent")
def test_what_a_killed_scheduler_had_started_ends_with_it_and_is_started_by_another(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    put(tmp_path, "long")
    one = process(started, tmp_path, "on", seconds=60, lease_s=1.0)
    wait_for(lambda: starts(tmp_path) == ["long"])
    pid = pid_of(tmp_path, "long")

    one.kill()

    wait_for(lambda: is_gone(pid))
    heir = process(started, tmp_path, "on", seconds=60, lease_s=1.0)
    wait_for(lambda: starts(tmp_path) == ["long", "long"])
    heir.terminate()
    assert heir.wait(30) == 0


def test_a_line_declared_while_its_pipeline_runs_is_due_when_it_was_said_then(tmp_path: Path) -> None:
    put(tmp_path, "late")
    made = scheduler(tmp_path)
    start, said = made.start, now_us() + DAY

    def declared_otherwise(pipeline: str) -> Child:
        made.metadata.put_schedule("late", pipeline="late", cron="* * * * *", zone="UTC", next_us=said)
        return start(pipeline)

    made.start = declared_otherwise
    (ended,) = made.run(threading.Event(), once=True)

    assert (ended.status, made.metadata.get_schedule("late").next_us) == (0, said)
    made.metadata.close()


def test_by_hand_a_schedule_is_started_without_moving_when_it_is_due(tmp_path: Path) -> None:
    put(tmp_path, "late", ago_us=-HOUR)
    made = scheduler(tmp_path)
    due = made.metadata.get_schedule("late").next_us

    ended = made.run_now("late", threading.Event())

    assert (ended.status, ended.due_us, starts(tmp_path)) == (0, None, ["late"])
    assert made.metadata.get_schedule("late").next_us == due
    made.metadata.claim_schedule("late", "somebody", 60_000_000)
    with pytest.raises(MetadataError, match="is being started by somebody"):
        made.run_now("late", threading.Event())
    made.metadata.close()


def test_what_is_declared_is_put_in_force_and_what_is_not_is_taken_away(tmp_path: Path) -> None:
    noon = FixedClock(DAY // 2)
    kept = MetadataStore(f"sqlite:///{tmp_path}/m.db", noon, Principal("ana"), project="shop")

    def project(**crons: str) -> Project:
        pipelines = {
            name: Pipeline(name, steps=[nothing()], schedule=Schedule(cron)) for name, cron in crons.items()
        }
        return Project("shop", tmp_path, tmp_path, step_pipelines=pipelines)

    first = apply_schedules(project(a="0 6 * * *", b="0 13 * * *"), kept, noon.now_us())
    kept.pause_schedule("a")
    second = apply_schedules(project(a="0 6 * * *"), kept, noon.now_us() + DAY)

    assert (first.put, first.removed) == (("a", "b"), ())
    assert (second.put, second.removed) == (("a",), ("b",))
    (left,) = kept.list_schedules()
    assert (left.paused, left.next_us) == (True, DAY + 6 * HOUR)
    kept.close()


def test_a_scheduler_that_was_asleep_for_longer_than_its_lease_does_not_start_again_what_still_runs(
    tmp_path: Path,
) -> None:
    put(tmp_path, "long")
    made = scheduler(tmp_path, seconds=3, lease_s=0.5)
    stopped = threading.Event()
    say = made.say

    def asleep(line: str) -> None:
        say(line)
        time.sleep(1.0)  # until after its lease, when what is due is looked at next

    made.look_s, made.say = 0.6, asleep
    running = threading.Thread(target=made.run, args=(stopped,))
    running.start()
    wait_for(lambda: (made.metadata.get_schedule("long").next_us or 0) > now_us())
    stopped.set()
    running.join()

    assert starts(tmp_path) == ["long"]
    assert made.metadata.get_schedule("long").last_error is None
    made.metadata.close()
