"""A drift is started once, whatever becomes of the scheduler that looks: killed, asleep, without its database, or told otherwise."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mlflow_core.errors import MetadataError
from mlflow_core.metadata import Schedule
from tests.workflow import retail
from tests.workflow.retail import kept_of, measured, store
from tests.workflow.scheduling import now_us, process, scheduler, starts, wait_for


@pytest.mark.chaos
@pytest.mark.parametrize("killed", ["while it looks", "after it has started"])
def test_a_drift_whose_scheduler_was_killed_is_started_by_the_next_one_and_once(
    shop: Path, started: list[subprocess.Popen[bytes]], killed: str
) -> None:
    retail.visits(shop, "other", day=30, days=7, seed=3, amount=58.0)
    before = ["likely"] if killed == "after it has started" else []
    if not before:
        (shop / "hold").touch()
    one = process(started, shop, "on", seconds=60, lease_s=1.0)
    wait_for(lambda: starts(shop) == before and measured(shop) == 1)

    one.kill()
    one.wait()
    (shop / "hold").unlink(missing_ok=True)
    heir = process(started, shop, "on", seconds=0.2, lease_s=1.0)

    wait_for(lambda: starts(shop) == [*before, "likely"])
    wait_for(lambda: kept_of(shop).seen.get("started_us") is not None)
    time.sleep(3)  # it has looked again, and more than once
    assert starts(shop) == [*before, "likely"]
    heir.terminate()
    assert heir.wait(30) == 0


@pytest.mark.chaos
def test_a_scheduler_that_was_asleep_while_another_started_it_does_not_start_it_again(
    shop: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    retail.visits(shop, "other", day=30, days=7, seed=3, amount=58.0)
    (shop / "hold").touch()
    asleep = process(started, shop, "on", lease_s=1.0)
    wait_for(lambda: measured(shop) == 1)
    asleep.send_signal(signal.SIGSTOP)
    (shop / "hold").unlink()
    wait_for(lambda: (kept_of(shop).lease_until_us or 0) < time.time_ns() // 1000)  # its lease has run out
    other = scheduler(shop)
    assert [one.schedule for one in other.run(threading.Event(), once=True)] == ["likely"]
    other.metadata.close()

    looked = kept_of(shop).seen["looked_us"]
    asleep.send_signal(signal.SIGCONT)
    wait_for(lambda: kept_of(shop).seen["looked_us"] > looked)

    assert starts(shop) == ["likely"]
    asleep.terminate()
    assert asleep.wait(30) == 0


def test_what_is_paused_or_declared_otherwise_while_it_is_looked_at_is_not_started(shop: Path) -> None:
    retail.visits(shop, "other", day=30, days=7, seed=3, amount=58.0)
    made, stopped = scheduler(shop), threading.Event()
    thread = threading.Thread(target=made.run, args=(stopped,))
    (shop / "hold").touch()
    thread.start()
    wait_for(lambda: measured(shop) == 1)
    with store(shop) as kept:
        kept.pause_schedule("likely")
    (shop / "hold").unlink()
    wait_for(lambda: kept_of(shop).lease_owner is None)
    assert starts(shop) == []

    (shop / "hold").touch()
    with store(shop) as kept:
        kept.resume_schedule("likely", next_us=now_us())
    wait_for(lambda: measured(shop) == 2)
    retail.declare(shop, drifted='by=9.0, look="1s"')
    retail.apply(shop, now_us())
    (shop / "hold").unlink()
    wait_for(lambda: str(kept_of(shop).seen.get("told")).startswith("nothing above 9"))
    stopped.set()
    thread.join(30)
    made.metadata.close()

    assert starts(shop) == []


def test_a_look_goes_on_while_the_database_cannot_be_reached_for_a_moment(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retail.visits(shop, "other", day=30, days=7, seed=3, amount=58.0)
    made, stopped = scheduler(shop, lease_s=3.0), threading.Event()
    claim, failures = made.metadata.claim_schedule, [MetadataError("cannot be reached")] * 3

    def claimed(*args: Any) -> Schedule:
        if failures:
            raise failures.pop()
        return claim(*args)

    monkeypatch.setattr(made.metadata, "claim_schedule", claimed)
    (shop / "hold").touch()
    thread = threading.Thread(target=made.run, args=(stopped,))
    thread.start()
    wait_for(lambda: not failures)
    (shop / "hold").unlink()
    wait_for(lambda: starts(shop) == ["likely"])
    stopped.set()
    thread.join(30)
    made.metadata.close()

    assert measured(shop) == 1
