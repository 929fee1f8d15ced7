"""Outputs of steps: what each was made of, and who else needs the same bytes, on every database."""

from __future__ import annotations

import pytest

from mlflow_core.config import Principal
from mlflow_core.errors import MetadataError
from mlflow_core.metadata import MetadataStore


def left(store, run_id, name, digest, **inputs):
    """A step that ended well; its number."""
    parts = {"inputs": inputs} if inputs else {}
    step = store.start_step(run_id, name, cache_key=f"{name}-{digest}", cache_parts=parts)
    store.finish_step(step.id, output_digest=digest)
    return step.id


def test_outputs_are_listed_with_what_they_were_made_of_for_this_project_alone(store, url, clock):
    run_id = store.create_run("p").id
    numbers = [left(store, run_id, "a", "sha256:a"), left(store, run_id, "b", "sha256:b", a="sha256:a")]
    failed = store.start_step(run_id, "c", cache_parts={"inputs": {"b": "sha256:b"}})
    store.finish_step(failed.id, "failed")
    with MetadataStore(url, clock, Principal("bob"), project="other") as other:
        left(other, other.create_run("p").id, "a", "sha256:x")

    found = store.list_outputs()

    assert [(one.step_id, one.run_id, one.step, one.digest, one.inputs) for one in found] == [
        (numbers[0], run_id, "a", "sha256:a", frozenset()),
        (numbers[1], run_id, "b", "sha256:b", frozenset({"sha256:a"})),
    ]


def test_what_any_other_record_names_is_needed(store, url, clock):
    run_id = store.create_run("p").id
    mine = left(store, run_id, "a", "sha256:a")
    for name, step in (("a", mine), ("file", mine), ("loose", None)):
        store.log_artifact(run_id, name, "u", f"sha256:{name}", 1, step_id=step)
    store.register_model_version("m", run_id, "sha256:model", {}, {})
    facts = {"schema": {}, "rows": {}, "clock": "served"}
    store.register_dataset("d", "h", artifact_digest="sha256:d", **facts)
    gone = store.register_dataset("d", "g", artifact_digest="sha256:gone", **facts)
    store.remove_dataset(gone.id, "old")
    with MetadataStore(url, clock, Principal("bob"), project="other") as other:
        left(other, other.create_run("p").id, "a", "sha256:theirs")

    asked = [f"sha256:{one}" for one in ("a", "file", "loose", "model", "d", "gone", "theirs", "nobody")]

    assert store.needed_beside(asked, [mine]) == {
        f"sha256:{one}" for one in ("loose", "model", "d", "theirs")
    }
    assert store.needed_beside(asked, []) >= {"sha256:a", "sha256:file"}
    assert store.needed_beside([], []) == frozenset()
    assert store.removed_of(asked) == {"sha256:gone"}
    store.register_dataset("other", "g", artifact_digest="sha256:gone", **facts)
    assert store.removed_of(asked) == frozenset(), "the same rows are there again"


def test_only_the_driver_that_is_meant_ends_a_run(store):
    run_id = store.create_run("p").id
    store.take_lease(run_id, "ada", 1_000_000)

    with pytest.raises(MetadataError, match="is driven by ada, not by bob"):
        store.finish_run(run_id, "crashed", driver="bob")
    assert store.get_run(run_id).state == "running"
    assert store.finish_run(run_id, "succeeded", driver="ada").state == "succeeded"
