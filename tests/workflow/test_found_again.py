"""What is run again, and what is not: nothing twice, only what depends on a change, and ``why`` says so."""

from __future__ import annotations

import os
import shutil

import pyarrow.parquet as pq
import pytest

from mlflow_core.cli.boundary import run
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.why import why
from tests.workflow.projects import change_one_row, edit, enlarge, train

STEPS = ("dataset", "train", "evaluate", "report", "busiest", "summary", "register")


@pytest.fixture
def project(machines):
    """The enlarged example."""
    return enlarge(machines)


def reasons(root, run_id):
    """By step whether it was found, and why it was not."""
    workspace = open_workspace(root)
    found = {one.step: one for one in why(workspace.metadata, workspace.artifacts, run_id)}
    workspace.metadata.close()
    return found


def ran(root, done):
    """The steps that were run, in the order in which they began."""
    return [name for name, one in reasons(root, done.run_id).items() if not one.found]


def test_the_same_pipeline_twice_does_no_work_and_says_so(project, capsys):
    first = train(project, "breakdown")["breakdown"]
    again = train(project, "breakdown")["breakdown"]

    assert set(first.seconds) == set(STEPS)
    assert first.found == ()
    assert set(again.found) == set(STEPS)
    assert (again.version, again.alias) == (1, "candidate")
    assert again.evaluation.score("auc") == first.evaluation.score("auc")
    assert {one.describe() for one in reasons(project, again.run_id).values()} == {
        f"its output was made in run {first.run_id}"
    }
    workspace = open_workspace(project)
    metadata = workspace.metadata
    assert len(metadata.list_versions("breakdown")) == 1
    assert len(metadata.alias_history("breakdown")) == 1
    assert metadata.latest_metrics([again.run_id])[again.run_id].keys() == (
        metadata.latest_metrics([first.run_id])[first.run_id].keys()
    ), "a run whose outputs were found can be listed and compared like any other"
    assert metadata.get_params(again.run_id) == metadata.get_params(first.run_id)
    assert metadata.get_run(again.run_id).dataset_id == metadata.get_run(first.run_id).dataset_id
    files = [{one.name for one in metadata.list_artifacts(run_id)} for run_id in (first.run_id, again.run_id)]
    assert files[0] == files[1]
    metadata.close()
    assert run(["--root", str(project), "runs", "why", "latest"]) == 0
    told = capsys.readouterr().out
    assert told.count("hit") == len(STEPS)
    assert all(len(line) <= 80 for line in told.splitlines())


def test_a_changed_window_runs_only_what_depends_on_it(project):
    first = train(project, "breakdown", "worn")
    edit(project / "machines" / "features.py", '["mean", "max"], over="3d"', '["mean", "max"], over="4d"')

    again = train(project, "breakdown", "worn")

    assert set(again["worn"].found) == set(again["worn"].seconds), "its view is another one"
    assert "dataset" not in again["breakdown"].found
    told = reasons(project, again["breakdown"].run_id)
    changed = {(one.part, one.name) for one in told["dataset"].changed}
    assert changed == {("features", "view health"), ("features", "service machine_health")}
    assert told["dataset"].against == first["breakdown"].run_id
    assert {one.part for one in told["train"].changed} == {"inputs"}
    assert told["train"].describe() == "inputs: dataset"
    assert again["breakdown"].version == 2


def test_an_edited_comment_runs_nothing(project):
    train(project, "breakdown")
    features, steps = project / "machines" / "features.py", project / "machines" / "steps.py"
    features.write_text(
        "# A comment.\n" + features.read_text().replace('"""How a', '"""What was said of how a')
    )
    edit(steps, '"""Twice as much."""', '"""Two times."""  # and a comment')
    edit(steps, "FACTOR = 2", "\n\nFACTOR = 2  # it was always two")

    again = train(project, "breakdown")["breakdown"]

    assert set(again.found) == set(STEPS)


def test_changed_code_of_a_step_runs_that_step_and_what_reads_it(project):
    train(project, "breakdown")
    edit(project / "machines" / "steps.py", "FACTOR = 2", "FACTOR = 3")

    again = train(project, "breakdown")["breakdown"]

    assert ran(project, again) == ["summary"]
    told = reasons(project, again.run_id)["summary"]
    assert [(one.part, one.name) for one in told.changed] == [("code", "machines.steps:FACTOR")]
    assert again.version == 1, "the model is the same"


def test_a_changed_source_row_runs_everything_from_the_dataset_on(project):
    first = train(project, "breakdown")["breakdown"]
    change_one_row(project / "machines" / "data" / "readings.parquet")

    again = train(project, "breakdown")["breakdown"]

    assert "dataset" not in again.found
    assert {"train", "evaluate", "report"}.isdisjoint(again.found)
    told = reasons(project, again.run_id)
    assert told["dataset"].describe() == "data: readings"
    assert told["dataset"].against == first.run_id
    assert again.version == 2


def test_a_changed_row_is_seen_though_the_file_keeps_its_size_and_time_of_change(project):
    readings = project / "machines" / "data" / "readings.parquet"
    plain = {"compression": "none", "use_dictionary": False}
    pq.write_table(pq.read_table(readings), readings, **plain)
    train(project, "breakdown")
    before = readings.stat()
    change_one_row(readings, **plain)
    os.utime(readings, ns=(before.st_atime_ns, before.st_mtime_ns))
    now = readings.stat()
    assert (now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns)

    again = train(project, "breakdown")["breakdown"]

    assert {"dataset", "train", "evaluate", "report"}.isdisjoint(again.found)
    told = reasons(project, again.run_id)["dataset"].describe()
    assert told == "data: readings, whose files were touched or written again"
    third = train(project, "breakdown")["breakdown"]
    assert {"dataset", "train", "evaluate", "report"} <= set(third.found)


def test_a_copy_of_a_project_finds_all_that_the_first_has_made(project, tmp_path):
    train(project, "worn")
    copy = shutil.copytree(project, tmp_path / "copy")

    assert ran(copy, train(copy, "worn")["worn"]) == []


def test_a_source_that_was_only_written_again_stops_at_the_dataset(project):
    train(project, "breakdown")
    readings = project / "machines" / "data" / "readings.parquet"
    readings.write_bytes(readings.read_bytes())

    again = train(project, "breakdown")["breakdown"]

    assert ran(project, again) == ["dataset"], (
        "the same rows are the same dataset, and nothing after it is run"
    )


def test_a_changed_description_runs_the_report_alone(project):
    train(project, "worn")
    edit(
        project / "training" / "breakdown.py",
        '"worn", machine_wear',
        '"worn", machine_wear, description="Why?"',
    )

    again = train(project, "worn")["worn"]

    assert ran(project, again) == ["report"]
    assert "description" in reasons(project, again.run_id)["report"].describe()


def test_an_output_that_is_gone_is_made_again(project):
    first = train(project, "worn")["worn"]
    workspace = open_workspace(project)
    steps = {one.name: one for one in workspace.metadata.list_steps(first.run_id)}
    workspace.artifacts.delete_tree(steps["train"].output_digest)

    again = train(project, "worn")["worn"]

    assert ran(project, again) == ["train"], "the same bytes again, so that nothing after it is run"
    assert "its output is gone" in reasons(project, again.run_id)["train"].describe()
    workspace.metadata.close()


@pytest.mark.parametrize("again", ["found", "made anew"])
def test_an_alias_that_somebody_moved_stays_where_it_is_though_the_pipeline_runs_again(project, again):
    train(project, "worn")
    edit(project / "training" / "breakdown.py", "max_depth=3", "max_depth=2")
    train(project, "worn")
    workspace = open_workspace(project)
    workspace.metadata.move_alias("worn", "candidate", 1, why="the second is worse at night")

    if again == "made anew":
        steps = {one.name: one for one in workspace.metadata.list_steps("latest")}
        workspace.artifacts.delete(steps["register"].output_digest)
    second = train(project, "worn")["worn"]

    assert second.version == 2
    assert workspace.metadata.aliases("worn") == {"candidate": 1}
    assert any("worn@candidate points at version 1 by hand" in one for one in second.warnings)
    workspace.metadata.close()


def test_an_alias_that_was_moved_away_is_moved_back_by_the_run_that_registered(project):
    train(project, "worn")
    edit(project / "training" / "breakdown.py", "max_depth=3", "max_depth=2")
    train(project, "worn")
    edit(project / "training" / "breakdown.py", "max_depth=2", "max_depth=3")

    back = train(project, "worn")["worn"]

    assert ran(project, back) == ["register"]
    workspace = open_workspace(project)
    assert workspace.metadata.aliases("worn") == {"candidate": 1}
    assert len(workspace.metadata.list_versions("worn")) == 2
    workspace.metadata.close()
