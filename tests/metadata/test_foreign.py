"""Runs of other systems in our tables: whole or not at all, once in each project, and in the audit log."""

from __future__ import annotations

import pytest

from mlflow_core.config import Principal
from mlflow_core.errors import MetadataError
from mlflow_core.metadata import ForeignFile, ForeignRun, MetadataStore, Metric, RunState
from tests.metadata.conftest import NOON, refusing

FOUND = ForeignRun(
    key="b00c",
    pipeline="mlflow/Default",
    state=RunState.FAILED,
    started_us=NOON - 5_000_000,
    ended_us=NOON - 1_000_000,
    params={"rate": 0.1},
    metrics=(Metric("loss", 0.5, 0, at_us=1), Metric("loss", 0.25, 7, at_us=2)),
    code={"commit": "c0ffee"},
    tags={"mlflow": {"run": "b00c"}},
    files=(ForeignFile("mlflow", "file:///x", "sha256:aa", 3, "text/plain"),),
)


def test_a_run_is_there_with_all_it_has_and_is_there_once(store):
    run, new = store.import_run(FOUND)
    again, newer = store.import_run(FOUND)

    assert (new, newer, again) == (True, False, run)
    assert store.get_run(run.id) == run
    assert (run.kind, run.state, run.principal) == ("imported", RunState.FAILED, "ada")
    assert (run.created_us, run.started_us, run.ended_us) == (
        NOON - 5_000_000,
        NOON - 5_000_000,
        NOON - 1_000_000,
    )
    assert store.get_params(run.id) == {"rate": 0.1}
    assert store.get_metrics(run.id) == list(FOUND.metrics)
    assert store.latest_metrics([run.id])[run.id]["loss"].value == 0.25
    assert [(one.name, one.digest, one.size) for one in store.list_artifacts(run.id)] == [
        ("mlflow", "sha256:aa", 3)
    ]
    assert store.find_foreign_run("b00c", FOUND.started_us) == run
    assert store.find_foreign_run("b00c", 0) is None
    assert [one.object for one in store.audit_entries(action="run.import")] == [f"run:{run.id}"]
    assert store.audit_verify().ok


def test_two_projects_have_each_their_own(store, url, clock):
    ours, _ = store.import_run(FOUND)
    with MetadataStore(url, clock, Principal("bo"), project="trains") as other:
        theirs, new = other.import_run(FOUND)

        assert new
        assert theirs.id != ours.id
        assert [run.id for run in other.list_runs()] == [theirs.id]


@pytest.mark.parametrize("table", ["mlcore_metrics", "mlcore_artifacts", "mlcore_audit"])
def test_a_run_that_cannot_be_written_whole_is_not_there(store, url, table):
    store.list_runs()
    with refusing(url, table, "no more"), pytest.raises(MetadataError, match="no more"):
        store.import_run(FOUND)

    assert store.list_runs() == []
    assert store.audit_entries(action="run.import") == []
    assert store.import_run(FOUND)[1]


def test_a_run_that_goes_on_elsewhere_is_refused(store):
    with pytest.raises(MetadataError, match='"running" is no way to end'):
        store.import_run(ForeignRun("a", "mlflow/x", RunState.RUNNING, NOON, None))
