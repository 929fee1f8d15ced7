"""Schedules: what is due is started once, by one, and nothing that is due is skipped by declaring it again."""

from __future__ import annotations

import threading

import pytest

from mlflow_core.config import Principal
from mlflow_core.errors import MetadataError, UnknownNameError
from mlflow_core.metadata import MetadataStore, Schedule
from tests.metadata.conftest import NOON, HandClock


def put(store: MetadataStore, name: str = "nightly", **other: object) -> Schedule:
    given: dict[str, object] = {"pipeline": "late", "cron": "0 3 * * *", "next_us": NOON + 10} | other
    return store.put_schedule(name, **given)  # type: ignore[arg-type]


def test_a_schedule_is_declared_read_changed_and_taken_away(store: MetadataStore) -> None:
    made = put(store, zone="Europe/Berlin", triggers={"stale": ["weather"]})
    assert (made.paused, made.next_us, made.last_run, made.principal) == (False, NOON + 10, None, "ada")
    assert store.get_schedule("nightly") == made
    assert store.list_schedules() == [made]
    changed = put(store, pipeline="early", zone="Europe/Berlin", next_us=NOON + 99)
    assert (changed.id, changed.pipeline, changed.triggers) == (made.id, "early", {})
    assert changed.next_us == NOON + 10  # its cron is the same, so what is due stays due
    store.remove_schedule("nightly")
    assert store.list_schedules() == []
    actions = [row.action for row in store.audit_entries()]
    assert actions == ["schedule.put", "schedule.put", "schedule.remove"]
    with pytest.raises(UnknownNameError, match='no schedule "nightl"'):
        store.get_schedule("nightl")


def test_the_same_declaration_again_changes_nothing_and_another_cron_has_another_time(
    store: MetadataStore,
) -> None:
    made = put(store)
    assert put(store, next_us=NOON + 99) == made
    assert len(store.audit_entries()) == 1
    assert put(store, cron="0 4 * * *", next_us=NOON + 99).next_us == NOON + 99


def test_what_is_due_is_leased_until_it_is_finished(store: MetadataStore, clock: HandClock) -> None:
    put(store)
    put(store, "later", next_us=NOON + 11)
    put(store, "by drift only", cron=None, next_us=None, triggers={"drift": True})
    assert store.due_schedules(NOON + 9, "one", 100) == []
    due = store.due_schedules(NOON + 10, "one", 100)
    assert [(one.name, one.lease_owner, one.lease_until_us) for one in due] == [
        ("nightly", "one", NOON + 110)
    ]
    assert [one.name for one in store.due_schedules(NOON + 12, "two", 100)] == ["later"]
    clock.us += 20
    run = store.create_run("late")
    done = store.finish_schedule("nightly", "one", next_us=NOON + 1_000, run_id=run.id)
    assert (done.lease_owner, done.next_us, done.last_run, done.last_us) == (
        None,
        NOON + 1_000,
        run.id,
        NOON + 20,
    )
    failed = store.finish_schedule("later", "two", next_us=NOON + 1_000, error="no such pipeline")
    assert (failed.last_run, failed.last_error) == (None, "no such pipeline")
    assert store.due_schedules(NOON + 999, "one", 100) == []


def test_what_a_dead_scheduler_had_taken_is_due_again_and_no_longer_its_own(
    store: MetadataStore, clock: HandClock
) -> None:
    put(store)
    store.due_schedules(NOON + 10, "dead", 100)
    assert store.due_schedules(NOON + 109, "heir", 100) == []
    clock.us = NOON + 110
    assert [one.lease_owner for one in store.due_schedules(clock.us, "heir", 100)] == ["heir"]
    with pytest.raises(MetadataError, match="not led by dead any more but by heir"):
        store.finish_schedule("nightly", "dead", next_us=None)


def test_one_schedule_is_claimed_and_renewed_by_one_at_a_time(store: MetadataStore, clock: HandClock) -> None:
    put(store)
    store.pause_schedule("nightly")
    store.claim_schedule("nightly", "me", 100)
    clock.us += 50
    assert store.claim_schedule("nightly", "me", 100).lease_until_us == NOON + 150
    with pytest.raises(MetadataError, match="is being started by me until 2013-11-15"):
        store.claim_schedule("nightly", "you", 100)
    clock.us += 100
    assert store.claim_schedule("nightly", "you", 100).lease_owner == "you"


def test_a_paused_schedule_is_never_due_and_makes_up_for_nothing(store: MetadataStore) -> None:
    put(store)
    assert store.pause_schedule("nightly", why="holidays").paused
    assert store.pause_schedule("nightly").paused
    assert store.due_schedules(NOON + 10, "one", 100) == []
    resumed = store.resume_schedule("nightly", next_us=NOON + 500)
    assert (resumed.paused, resumed.next_us) == (False, NOON + 500)
    assert store.resume_schedule("nightly", next_us=NOON + 900) == resumed
    assert [one.name for one in store.due_schedules(NOON + 500, "one", 100)] == ["nightly"]
    actions = [row.action for row in store.audit_entries()]
    assert actions == ["schedule.put", "schedule.pause", "schedule.resume"]


def test_many_schedulers_at_once_start_each_schedule_once(store: MetadataStore, url: str) -> None:
    for number in range(20):
        put(store, f"s{number}")
    taken: list[str] = []

    def take(owner: str) -> None:
        with MetadataStore(url, HandClock(), Principal("ada"), project="flights") as own:
            taken.extend(one.name for one in own.due_schedules(NOON + 10, owner, 100))

    threads = [threading.Thread(target=take, args=(f"scheduler-{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(f"s{number}" for number in range(20))


def test_another_project_sees_and_starts_none(store: MetadataStore, url: str, clock: HandClock) -> None:
    put(store)
    with MetadataStore(url, clock, Principal("ada"), project="other") as other:
        assert other.list_schedules() == []
        assert other.due_schedules(NOON + 10, "other", 100) == []
        with pytest.raises(UnknownNameError):
            other.claim_schedule("nightly", "other", 100)
        put(other)
        assert other.get_schedule("nightly").id != store.get_schedule("nightly").id


def test_what_was_seen_stays_with_a_schedule_until_something_else_is_seen(store: MetadataStore) -> None:
    watch = {"when": {"kind": "fresh"}}
    given: dict[str, object] = {"cron": None, "triggers": watch, "next_us": NOON}
    made = put(store, **given, seen={"last": 1})
    assert (made.seen, made.next_us) == ({"last": 1}, NOON)
    assert put(store, **given, seen={"last": 2}) == made  # the same declaration again changes nothing

    assert [one.name for one in store.due_schedules(NOON, "one", 100)] == ["nightly"]
    with pytest.raises(MetadataError, match="is not led by two"):
        store.release_schedule("nightly", "two", next_us=NOON + 5)
    left = store.release_schedule("nightly", "one", next_us=NOON + 5, seen={"last": 3})
    assert (left.lease_owner, left.next_us, left.last_us, left.seen) == (None, NOON + 5, None, {"last": 3})
    store.claim_schedule("nightly", "one", 9)
    assert store.release_schedule("nightly", "one", next_us=NOON + 6).seen == {"last": 3}

    store.claim_schedule("nightly", "one", 9)
    assert store.finish_schedule("nightly", "one", next_us=None, seen={"last": 4}).seen == {"last": 4}
    later = put(store, **{**given, "triggers": {"when": {"kind": "other"}}, "next_us": NOON + 9})
    assert (later.seen, later.next_us) == ({"last": 4}, NOON + 9)


def test_what_is_declared_otherwise_while_it_is_led_keeps_the_time_and_the_mind_that_it_was_given(
    store: MetadataStore,
) -> None:
    put(store, "drift", cron=None, triggers={"of": "orders"}, seen={"orders": 1}, next_us=NOON)
    (old,) = store.due_schedules(NOON, "one", 100)
    put(store, "drift", cron=None, triggers={"of": "weather"}, seen={"weather": 7}, next_us=NOON + 5)

    kept = store.release_schedule("drift", "one", next_us=NOON + 99, seen={"orders": 2}, of=old)
    assert (kept.next_us, kept.seen, kept.lease_owner) == (NOON + 5, {"weather": 7}, None)

    store.claim_schedule("drift", "one", 100)
    kept = store.finish_schedule("drift", "one", next_us=None, seen={"orders": 2}, error="ended", of=old)
    assert (kept.next_us, kept.seen, kept.last_error) == (NOON + 5, {"weather": 7}, "ended")

    store.claim_schedule("drift", "one", 100)
    kept = store.finish_schedule("drift", "one", next_us=NOON + 9, seen={"weather": 8}, of=kept)
    assert (kept.next_us, kept.seen) == (NOON + 9, {"weather": 8})
