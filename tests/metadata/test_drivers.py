"""Stopping a run: a note where somebody drives it, its end where nobody does."""

from __future__ import annotations

import pytest

from mlflow_core.config import Principal
from mlflow_core.errors import MetadataError, UnknownNameError
from mlflow_core.metadata import MetadataStore
from tests.metadata.conftest import NOON, HandClock


def test_a_driven_run_goes_on_until_its_driver_has_seen_the_note(
    store: MetadataStore, url: str, clock: HandClock
) -> None:
    run = store.create_run("late")
    store.take_lease(run.id, "driver", 100)
    assert not store.cancel_requested(run.id)
    with MetadataStore(url, clock, Principal("bob"), project="flights") as other:
        asked = other.request_cancel(run.id, why="wrong data")
        assert other.request_cancel(run.id) == asked
    assert (asked.state, asked.cancel_requested_us, asked.cancel_requested_by) == ("running", NOON, "bob")
    assert store.cancel_requested(run.id)
    assert store.finish_run(run.id, "cancelled").cancel_requested_by == "bob"
    rows = store.audit_entries()
    assert [(row.principal, row.action, row.object) for row in rows] == [
        ("bob", "run.cancel", f"run:{run.id}")
    ]
    assert "wrong data" in rows[0].details


@pytest.mark.parametrize("lease", [None, 100])
def test_a_run_that_nobody_drives_is_cancelled_at_once_with_its_open_step(
    store: MetadataStore, clock: HandClock, lease: int | None
) -> None:
    run = store.create_run("late")
    if lease is not None:
        store.take_lease(run.id, "driver", lease)
        clock.us += lease
    store.start_step(run.id, "fit")
    ended = store.request_cancel(run.id)
    assert (ended.state, ended.ended_us, ended.error) == ("cancelled", clock.us, "cancelled by ada")
    assert [step.state for step in store.list_steps(run.id)] == ["cancelled"]
    assert store.cancel_requested(run.id)  # should its driver wake up after all
    with pytest.raises(MetadataError, match="has cancelled"):
        store.take_lease(run.id, "driver", 100)


def test_a_pending_run_is_cancelled_at_once_and_an_ended_one_is_not(store: MetadataStore) -> None:
    run = store.create_run("late", pending=True)
    assert store.request_cancel(run.id).state == "cancelled"
    with pytest.raises(MetadataError, match="has cancelled"):
        store.request_cancel(run.id)
    with pytest.raises(UnknownNameError, match="no run"):
        store.cancel_requested("nope")


def test_a_resumed_run_has_forgotten_that_it_was_asked_to_stop(store: MetadataStore) -> None:
    run = store.create_run("late")
    store.request_cancel(run.id)
    again = store.start_run(run.id)
    assert (again.state, again.cancel_requested_us, again.cancel_requested_by) == ("running", None, None)
    assert not store.cancel_requested(run.id)
