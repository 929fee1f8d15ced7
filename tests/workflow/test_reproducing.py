"""Doing a run again: the same to the bit, from the recorded training set once the sources have moved on, or not."""

from __future__ import annotations

import json
import os
import shutil

import pyarrow.parquet as pq
import pytest

from mlflow_core.cli.boundary import run
from mlflow_core.errors import WorkflowError
from mlflow_core.workflow.outputs import how_outputs_differ
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.reproducing import reproduce_run
from tests.workflow.projects import change_one_row, edit, enlarge, train


@pytest.fixture
def project(machines):
    """The enlarged example."""
    return enlarge(machines)


def test_a_run_done_again_is_the_same_to_the_bit_and_registers_nothing(project, capsys):
    done = train(project, "breakdown")["breakdown"]

    assert run(["--root", str(project), "--json", "runs", "reproduce", done.run_id, "--in-process"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["same"] is True
    assert told["original"] == done.run_id
    assert {one["step"] for one in told["steps"]} == set(done.seconds) - {"register"}
    workspace = open_workspace(project)
    assert len(workspace.metadata.list_versions("breakdown")) == 1
    again = workspace.metadata.get_run(told["run"])
    assert (again.kind, again.parent_id, again.state) == ("reproduce", done.run_id, "succeeded")
    assert not any(step.cache_hit for step in workspace.metadata.list_steps(again.id))
    workspace.metadata.close()


def test_the_recorded_training_set_is_taken_once_the_sources_have_moved_on(project):
    done = train(project, "worn")["worn"]
    change_one_row(project / "machines" / "data" / "readings.parquet")

    workspace = open_workspace(project)
    found = reproduce_run(workspace, done.run_id)

    assert found.same
    assert any("the recorded one was taken" in note and "readings" in note for note in found.notes)
    steps = {one.name: one for one in workspace.metadata.list_steps(done.run_id)}
    workspace.artifacts.delete_tree(steps["dataset"].output_digest)
    with pytest.raises(WorkflowError, match="the recorded one is gone"):
        reproduce_run(workspace, done.run_id)
    workspace.metadata.close()


def test_files_that_were_only_copied_have_not_moved_on(project):
    done = train(project, "worn")["worn"]
    readings = project / "machines" / "data" / "readings.parquet"
    readings.rename(readings.with_name("old"))
    shutil.copy2(readings.with_name("old"), readings)
    readings.with_name("old").unlink()

    workspace = open_workspace(project)
    found = reproduce_run(workspace, done.run_id)

    assert found.same
    assert not any("has changed" in note or "touched" in note for note in found.notes)
    workspace.metadata.close()


def test_rows_that_were_written_with_the_old_size_and_time_of_change_are_suspected_where_the_set_differs(
    project,
):
    readings = project / "machines" / "data" / "readings.parquet"
    plain = {"compression": "none", "use_dictionary": False}
    pq.write_table(pq.read_table(readings), readings, **plain)
    done = train(project, "worn")["worn"]
    before = readings.stat()
    change_one_row(readings, **plain)
    os.utime(readings, ns=(before.st_atime_ns, before.st_mtime_ns))

    workspace = open_workspace(project)
    found = reproduce_run(workspace, done.run_id)

    steps = {one.step: one for one in found.steps}
    assert not steps["dataset"].same
    assert any(
        note.startswith("dataset: it differs, and the files of readings were touched") for note in found.notes
    )
    workspace.metadata.close()


def test_what_differs_is_said(project, monkeypatch):
    from mlflow_core.workflow.training import fitting

    done = train(project, "worn")["worn"]
    fit = fitting.fit

    def careless(trainer, data, context):
        return fit(trainer.model_copy(update={"rounds": trainer.rounds + 1}), data, context)

    monkeypatch.setattr(fitting, "fit", careless)
    workspace = open_workspace(project)
    found = reproduce_run(workspace, done.run_id)

    steps = {one.step: one for one in found.steps}
    assert not found.same
    assert steps["dataset"].same
    assert any(line.startswith("model.json: ") for line in steps["train"].differences)
    workspace.metadata.close()


def test_a_run_with_other_declarations_is_not_reproduced(project):
    done = train(project, "worn")["worn"]
    edit(project / "training" / "breakdown.py", "max_depth=3", "max_depth=2")

    workspace = open_workspace(project)
    with pytest.raises(WorkflowError, match="these have changed: trainer"):
        reproduce_run(workspace, done.run_id)
    workspace.metadata.close()


def test_differences_name_files_and_values(workspace):
    store = workspace.artifacts
    one, other = (store.put_bytes(json.dumps({"a": [1, x], "b": 0}).encode()).digest for x in (2, 3))

    assert how_outputs_differ(store, one, other) == ("a[1] 2 -> 3",)
    assert how_outputs_differ(store, one, one) == ()
