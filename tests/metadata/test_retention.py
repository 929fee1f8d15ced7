"""What the records of a database need of the artifact store, on both databases."""

from __future__ import annotations

import pytest

from mlflow_core.config import Principal
from mlflow_core.errors import MetadataError
from mlflow_core.metadata import MetadataStore
from mlflow_core.metadata.retention import Needed, read_needed
from tests.metadata.conftest import NOON, HandClock

DAY = 86_400_000_000


def run(store: MetadataStore, digest: str, *, pipeline: str = "late", dataset: int | None = None) -> str:
    made = store.create_run(pipeline, dataset_id=dataset).id
    store.log_artifact(made, name="file", uri=digest, digest=digest, size=1, media_type="x")
    step = store.start_step(made, "work")
    store.finish_step(step.id, output_digest=f"{digest}-output")
    store.finish_run(made, "succeeded")
    return made


def needed(url: str, *, versions: int | None = None) -> Needed:
    return read_needed(
        url, runs_since_us=NOON - 30 * DAY, datasets_since_us=NOON - 60 * DAY, versions=versions
    )


def test_records_say_what_is_needed(store: MetadataStore, url: str, clock: HandClock) -> None:
    clock.us = NOON - 100 * DAY
    sets = [
        store.register_dataset(name, name, schema={}, rows={}, clock="event", artifact_digest=name).id
        for name in ("used", "old")
    ]
    used = run(store, "older", dataset=sets[0])
    store.register_model_version("late", used, "model 1", dataset_id=sets[0])
    clock.us += DAY
    run(store, "last good")
    store.register_model_version("late", None, "model 2")
    store.register_model_version("late", None, "model 3")
    store.move_alias("late", "champion", 1, "a test")
    going = store.create_run("late").id
    clock.us = NOON - DAY
    run(store, "recent", pipeline="early")
    clock.us = NOON

    found = needed(url, versions=1)

    kept = {"last good", "last good-output", "recent", "recent-output", "model 1", "model 3", "used", "older"}
    assert found.digests == kept
    assert [(one.name, one.project, one.namespace) for one in found.datasets] == [
        ("old", "flights", "default")
    ]
    assert (found.versions, found.running) == (1, {going})
    assert needed(url).digests == kept | {"model 2"}


def test_what_another_project_needs_is_needed(store: MetadataStore, url: str, clock: HandClock) -> None:
    with MetadataStore(url, clock, Principal("bob"), project="trains", namespace="rail") as other:
        run(other, "theirs")

    assert "theirs" in needed(url).digests


def test_for_ever_keeps_everything_that_is_recorded(store: MetadataStore, url: str, clock: HandClock) -> None:
    clock.us = 0
    store.register_dataset("a", "rows", schema={}, rows={}, clock="event", artifact_digest="rows")
    run(store, "first")
    run(store, "second")

    found = read_needed(url, runs_since_us=None, datasets_since_us=None, versions=None)

    assert found.digests == {"rows", "first", "first-output", "second", "second-output"}
    assert found.datasets == ()


def test_a_database_without_tables_says_nothing(empty_url: str) -> None:
    with pytest.raises(MetadataError, match="nobody can say what it needs"):
        needed(empty_url)
