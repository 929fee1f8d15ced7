"""Schedulers that watch real files: one start for one arrival, whoever looks, whoever dies, and whatever hangs."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.config import FixedClock, Principal
from mlflow_core.metadata import MetadataStore
from mlflow_core.plan.project import Project
from mlflow_core.spec import Fresh, ParquetSource, Pipeline, Schedule, SqlSource, step
from mlflow_core.workflow.schedule.declared import apply_schedules
from mlflow_core.workflow.schedule.watching import declared_watch, seen_first
from tests.workflow.scheduling import now_us, process, scheduler, starts, wait_for

ROOT = Path(__file__).resolve().parents[3]
HOUR = 3_600_000_000


@step
def nothing() -> int:
    return 0


def arrive(folder: Path, name: str, *hours: float) -> None:
    times = pa.array([int(hour * HOUR) for hour in hours], pa.int64()).cast(pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"placed": times}), folder / f"{name}.parquet")


def store(folder: Path) -> MetadataStore:
    return MetadataStore(
        f"sqlite:///{folder}/metadata.db", FixedClock(now_us()), Principal("test"), project="shop"
    )


def declare(folder: Path, name: str = "late", **more: Any) -> None:
    """Put a pipeline in force that is started when orders are new, at most so often that tests need not wait."""
    said = {"by": "0s", "look": "1s", "at_most_every": "0s"} | more
    source = ParquetSource("orders", path=f"{folder}/orders/*.parquet", event_time="placed")
    fresh = Fresh(source, by=said.pop("by"), look=said.pop("look"))
    pipeline = Pipeline(name, steps=[nothing()], schedule=Schedule(when=fresh, **said))
    with store(folder) as kept:
        apply_schedules(
            Project("shop", folder, folder, step_pipelines={name: pipeline}), kept, now_us() - HOUR
        )


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "orders").mkdir()
    arrive(tmp_path / "orders", "a", 1, 2)
    return tmp_path


def once(folder: Path, **more: Any) -> list[str]:
    """Let one scheduler do what is due; the schedules that it started."""
    made = scheduler(folder, **more)
    ended = made.run(threading.Event(), once=True)
    made.metadata.close()
    return [one.schedule for one in ended]


def due_now(folder: Path, name: str = "late") -> None:
    """Let a schedule be looked at though its time has not come."""
    with store(folder) as kept:
        one = kept.claim_schedule(name, "test", HOUR)
        kept.release_schedule(name, "test", next_us=now_us() - 1)
        assert one.name == name


def test_an_arrival_starts_the_pipeline_once_and_what_was_there_before_does_not(shop: Path) -> None:
    declare(shop)
    assert once(shop) == []

    arrive(shop / "orders", "b", 3)
    due_now(shop)
    assert once(shop) == ["late"]
    due_now(shop)
    assert once(shop) == []  # a scheduler that was started anew knows what the one before it saw

    with store(shop) as kept:
        one = kept.get_schedule("late")
    assert one.seen["started_with"]["newest_us"] == 3 * HOUR
    assert "1970-01-01T03:00:00Z" in one.seen["told"]
    assert one.lease_owner is None


def test_what_arrived_between_apply_and_the_first_look_is_an_arrival(shop: Path) -> None:
    declare(shop)
    arrive(shop / "orders", "b", 3)

    assert once(shop) == ["late"]


def test_two_schedulers_start_one_arrival_once(shop: Path, started: list[subprocess.Popen[bytes]]) -> None:
    declare(shop)
    both = [process(started, shop, "on", seconds=0.5) for _ in range(2)]
    arrive(shop / "orders", "b", 3)
    wait_for(lambda: starts(shop) == ["late"])
    time.sleep(4)  # both have looked again, and more than once

    assert starts(shop) == ["late"]

    arrive(shop / "orders", "c", 4)
    wait_for(lambda: starts(shop) == ["late", "late"])
    for one in both:
        one.terminate()
    assert [one.wait(30) for one in both] == [0, 0]


@pytest.mark.chaos
def test_an_arrival_whose_scheduler_was_killed_is_started_by_the_next_one_and_once(
    shop: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    declare(shop)
    arrive(shop / "orders", "b", 3)
    one = process(started, shop, "on", seconds=60, lease_s=1.0)
    wait_for(lambda: starts(shop) == ["late"])

    one.kill()
    one.wait()
    heir = process(started, shop, "on", seconds=0.2, lease_s=1.0)

    wait_for(lambda: len(starts(shop)) == 2)
    with store(shop) as kept:
        wait_for(lambda: kept.get_schedule("late").seen.get("started_us") is not None)
    time.sleep(2.5)
    assert len(starts(shop)) == 2
    heir.terminate()
    assert heir.wait(30) == 0


def test_a_scheduler_that_is_asked_to_end_leaves_the_arrival_to_the_next(
    shop: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    declare(shop)
    arrive(shop / "orders", "b", 3)
    one = process(started, shop, "on", seconds=60)
    wait_for(lambda: starts(shop) == ["late"])

    one.terminate()

    assert one.wait(30) == 0
    assert once(shop) == ["late"]


def test_a_pipeline_that_fails_has_had_its_arrival(shop: Path) -> None:
    declare(shop, "bad")
    arrive(shop / "orders", "b", 3)

    assert once(shop) == ["bad"]
    due_now(shop, "bad")
    assert once(shop) == []
    with store(shop) as kept:
        assert kept.get_schedule("bad").last_error == "the source is empty"
    arrive(shop / "orders", "c", 4)
    due_now(shop, "bad")
    assert once(shop) == ["bad"]


def test_a_source_that_cannot_be_read_is_told_and_looked_at_again(shop: Path) -> None:
    declare(shop)
    (shop / "orders" / "a.parquet").unlink()

    assert once(shop) == []
    with store(shop) as kept:
        one = kept.get_schedule("late")
    assert "orders" in one.seen["problem"]
    assert (one.next_us or 0) > now_us()
    assert one.lease_owner is None
    arrive(shop / "orders", "b", 3)
    due_now(shop)
    assert once(shop) == ["late"]


def test_a_source_that_hangs_holds_up_nothing_else(shop: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, store(shop) as kept:
        url = f"postgresql+psycopg://ops@127.0.0.1:{silent.getsockname()[1]}/shop"
        source = SqlSource("orders", url=url, table="orders", event_time="placed")
        watch = declared_watch(Schedule(when=Fresh(source)))
        kept.put_schedule(
            "late", pipeline="late", triggers=watch, seen=seen_first(None, 0), next_us=now_us() - HOUR
        )
        kept.put_schedule("other", pipeline="other", cron="0 6 * * *", zone="UTC", next_us=now_us() - HOUR)
        made = scheduler(shop)
        made.look_within_s = 1.0

        ended = made.run(threading.Event(), once=True)

    assert [one.schedule for one in ended] == ["other"]
    one = made.metadata.get_schedule("late")
    assert (one.lease_owner, one.seen["problem"]) == (None, "it could not be looked at within 1 s")
    made.metadata.close()


def test_applied_again_it_keeps_what_it_saw_and_another_source_begins_anew(shop: Path) -> None:
    declare(shop)
    arrive(shop / "orders", "b", 3)
    declare(shop, at_least_every="7d")
    declare(shop, by="30m")  # asks for less than has arrived
    assert once(shop) == ["late"]

    (shop / "orders" / "a.parquet").rename(shop / "a.parquet")
    source = ParquetSource("orders", path=f"{shop}/a.parquet", event_time="placed")
    pipeline = Pipeline("late", steps=[nothing()], schedule=Schedule(when=Fresh(source, look="1s")))
    with store(shop) as kept:
        apply_schedules(Project("shop", shop, shop, step_pipelines={"late": pipeline}), kept, now_us() - HOUR)
        assert kept.get_schedule("late").seen["started_with"]["newest_us"] == 2 * HOUR
    assert once(shop) == []


def test_a_line_instead_of_a_condition_takes_its_place(shop: Path) -> None:
    declare(shop)
    pipeline = Pipeline("late", steps=[nothing()], schedule=Schedule("0 6 * * *"))
    with store(shop) as kept:
        apply_schedules(Project("shop", shop, shop, step_pipelines={"late": pipeline}), kept, 0)
        one = kept.get_schedule("late")
    assert (one.cron, one.triggers, one.next_us) == ("0 6 * * *", {}, 6 * HOUR)
