"""A search without the training after it: what it leaves, what finds that, and how it goes on after whatever ended it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mlflow_core.cli.boundary import run
from mlflow_core.errors import RunCancelled, SpecError, TrainError, UsageError, WorkflowError
from mlflow_core.workflow.cancelling import cancel_run
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.reproducing import reproduce_run
from mlflow_core.workflow.resuming import resume_run
from mlflow_core.workflow.searching import StudyMirror
from mlflow_core.workflow.training import run_pipeline
from mlflow_core.workflow.training.nodes import graph_of
from mlflow_core.workflow.training.tuning import plan_tuning, run_tuning
from mlflow_core.workflow.why import why
from tests.workflow.projects import edit

SEARCH = (
    'search=ml.Search(trials=4, space={"max_depth": ml.Int(1, 6), "learning_rate": ml.LogFloat(0.01, 0.5)}, '
    "pruner=None, seed=5),"
)
BASELINES = "baselines=[ml.Rate()],"

DRIVER = """
import os, signal, sys
from pathlib import Path
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.searching import StudyMirror
from mlflow_core.workflow.training.tuning import plan_tuning, run_tuning

tell = StudyMirror.trial

def killing(self, trial):
    tell(self, trial)
    if trial.number == 1:
        os.kill(os.getpid(), signal.SIGKILL)

StudyMirror.trial = killing
run_tuning(plan_tuning(open_workspace(Path(sys.argv[1])), "breakdown"))
"""


def declare(machines, search=SEARCH):
    """Give the example's pipeline a search."""
    edit(machines / "training" / "breakdown.py", BASELINES, f"{search}\n    {BASELINES}")


@pytest.fixture
def searched(machines):
    """The example's folder, its pipeline with a search."""
    declare(machines)
    return machines


@pytest.fixture
def opened(searched):
    """Its workspace."""
    found = open_workspace(searched)
    yield found
    found.metadata.close()


def tune(workspace, **asked):
    return run_tuning(plan_tuning(workspace, "breakdown", **asked))


def mirrored(workspace, tuned):
    """The study's trials as the metadata store has them."""
    metadata = workspace.metadata
    return metadata.list_trials(metadata.get_study(tuned.study.name).id)


def test_a_search_alone_leaves_a_study_and_no_model(opened):
    tuned = tune(opened)

    metadata = opened.metadata
    found = metadata.get_run(tuned.run_id)
    assert (found.kind, found.state) == ("tune", "succeeded")
    assert [step.name for step in metadata.list_steps(found.id)] == ["dataset", "search"]
    assert metadata.list_models() == []
    assert "model" not in {one.name for one in metadata.list_artifacts(found.id)}
    trials = mirrored(opened, tuned)
    assert [trial.state for trial in trials] == ["succeeded"] * 4
    best = min(trials, key=lambda trial: (trial.value, trial.number))
    assert (tuned.best.number, tuned.best.value) == (best.number, best.value)
    assert tuned.gain == pytest.approx(trials[0].value - best.value)
    assert (tuned.first.number, tuned.left, tuned.study.direction) == (0, 0, "minimize")
    assert tuned.place == str(opened.settings.root / ".mlcore" / "studies.sqlite")
    assert metadata.latest_metrics([found.id])[found.id]["search.logloss"].value == best.value
    assert metadata.get_params(found.id)["search.max_depth"] == best.params["max_depth"]
    assert metadata.get_run(found.id).dataset_id is not None


def test_what_a_search_left_is_found_by_the_next_one_and_by_a_training(opened):
    first = tune(opened)
    again = tune(opened, parallel=1)
    trained = run_pipeline(opened, "breakdown")

    assert again.found == ("dataset", "search")
    assert (again.best, again.trials, again.importance) == (first.best, first.trials, first.importance)
    assert trained.found == ("dataset", "search")
    params = opened.metadata.get_params(trained.run_id)
    assert params["trainer.max_depth"] == first.best.settings["max_depth"]
    assert params["trainer.learning_rate"] == first.best.settings["learning_rate"]
    assert {one.run_id for one in mirrored(opened, first)} == {first.run_id}, "no trial was run again"


def test_how_many_trials_are_asked_for_is_in_the_key_and_the_study_goes_on(opened):
    few = tune(opened, trials=2)
    many = tune(opened)
    few_again = tune(opened, trials=2)

    reasons = {one.step: one for one in why(opened.metadata, opened.artifacts, many.run_id)}
    assert reasons["search"].describe() == "params: search.trials 2 -> 4"
    assert reasons["dataset"].found
    assert few.study == many.study
    assert many.trials[:2] == few.trials
    assert [one.run_id for one in mirrored(opened, many)] == [few.run_id] * 2 + [many.run_id] * 2
    assert few_again.found == ("dataset", "search")
    assert (few_again.trials, few_again.best) == (few.trials, few.best)


def test_a_search_with_fewer_trials_than_its_study_has_takes_the_first_ones(opened):
    many = tune(opened)
    few = tune(opened, trials=2)

    assert few.found == ("dataset",)
    assert few.trials == many.trials[:2]
    assert few.best == min(few.trials, key=lambda trial: (trial.value, trial.number))
    assert (few.asked, few.left) == (2, 0)


def test_a_search_whose_time_was_up_goes_on_and_is_not_taken_for_a_whole_one(opened, monkeypatch):
    tell, now = StudyMirror.trial, [0.0]

    def taking_half_an_hour(self, trial):
        tell(self, trial)
        now[0] += 1800.0

    with monkeypatch.context() as patch:
        patch.setattr(StudyMirror, "trial", taking_half_an_hour)
        patch.setattr("mlflow_core.train.search.run.time", SimpleNamespace(monotonic=lambda: now[0]))
        first = tune(opened, trials=5, within="1h")
        second = tune(opened, trials=5, within="1h")
    last = tune(opened, trials=5)
    again = tune(opened, trials=5, within="1h")

    assert [one.count("succeeded") for one in (first, second, last)] == [2, 4, 5]
    assert [one.left for one in (first, second, last)] == [3, 1, 0]
    assert any("the time of 1h was up" in one for one in first.warnings)
    assert second.found == last.found == ("dataset",)
    assert [trial.attempts for trial in last.trials] == [1] * 5
    assert (again.found, again.warnings, again.best) == (("dataset", "search"), (), last.best)


def test_what_changes_only_the_fit_does_not_search_again_and_the_other_way_round(opened):
    recipe = plan_tuning(opened, "breakdown")
    whole = replace(recipe, spec=opened.pipeline("breakdown"), options=replace(recipe.options, tune=False))

    def keys(recipe):
        nodes = graph_of(recipe).nodes
        return nodes["search"].key, nodes["train"].key

    searched, fitted = keys(whole)
    wider = whole.spec.trainer.model_copy(update={"workers": 4})
    assert keys(replace(whole, spec=whole.spec.model_copy(update={"trainer": wider})))[0] == searched
    assert keys(replace(whole, spec=whole.spec.model_copy(update={"trainer": wider})))[1] != fitted
    other = whole.spec.search.model_copy(update={"trials": 9})
    assert keys(replace(whole, spec=whole.spec.model_copy(update={"search": other})))[0] != searched
    assert keys(replace(whole, spec=whole.spec.model_copy(update={"search": other})))[1] == fitted
    assert graph_of(recipe).nodes["search"].key == searched
    assert list(graph_of(recipe).nodes) == ["dataset", "search"]


def test_the_same_settings_found_again_are_not_trained_with_again(machines):
    declare(machines, 'search=ml.Search(trials=2, space={"max_depth": ml.Choice([3])}, seed=5),')
    trained = []
    for trials in (2, 3):
        workspace = open_workspace(machines)
        trained.append(run_pipeline(workspace, "breakdown"))
        workspace.metadata.close()
        edit(machines / "training" / "breakdown.py", f"trials={trials}", f"trials={trials + 1}")

    assert "search" not in trained[1].found
    assert {"dataset", "train", "evaluate", "register"} <= set(trained[1].found)


def test_a_killed_search_goes_on_without_repeating_a_finished_trial(searched, opened, capsys):
    ended = subprocess.run(
        [sys.executable, "-c", DRIVER, str(searched)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    killed = opened.metadata.get_run("latest")
    assert (killed.kind, killed.state) == ("tune", "running")

    assert run(["--root", str(searched), "--json", "runs", "resume", killed.id, "--in-process"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["run"], told["found"]) == (killed.id, ["dataset"])
    assert told["trials"] == {"asked": 4, "left": 0, "succeeded": 4, "pruned": 0, "failed": 0}
    tuned = tune(opened)
    assert tuned.found == ("dataset", "search")
    assert [trial.attempts for trial in tuned.trials] == [1, 1, 1, 1]
    states = [(one.name, one.state.value) for one in opened.metadata.list_steps(killed.id)]
    assert states == [
        ("dataset", "succeeded"),
        ("search", "crashed"),
        ("dataset", "succeeded"),
        ("search", "succeeded"),
    ]


def test_a_search_that_was_cancelled_stops_soon_and_can_be_resumed(opened, monkeypatch):
    tell, stopped = StudyMirror.trial, []

    def cancelling(self, trial):
        tell(self, trial)
        cancel_run(opened.metadata, "latest", why="enough")
        began = time.monotonic()
        try:
            while time.monotonic() - began < 20:
                time.sleep(0.05)
        finally:
            stopped.append(time.monotonic() - began)

    with monkeypatch.context() as patch, pytest.raises(RunCancelled, match="mlcore runs resume"):
        patch.setattr(StudyMirror, "trial", cancelling)
        tune(opened)

    latest = opened.metadata.get_run("latest")
    assert (latest.kind, latest.state) == ("tune", "cancelled")
    assert stopped[0] < 10, "it was not left to its end"
    resumed = resume_run(opened, latest.id)
    assert resumed.count("succeeded") == 4
    assert resumed.trials[0].attempts == 1


def test_ctrl_c_leaves_a_search_that_can_be_resumed_while_what_it_reads_is_the_same(searched, monkeypatch):
    def interrupting(self, trial):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StudyMirror, "trial", interrupting)
        assert run(["--root", str(searched), "tune", "breakdown", "--trials", "2", "--in-process"]) == 130
    pipeline = searched / "training" / "breakdown.py"
    edit(pipeline, BASELINES, 'baselines=[ml.Rate()], gate=ml.Gate(metric="auc", at_least={"auc": 0.99}),')
    workspace = open_workspace(searched)
    latest = workspace.metadata.get_run("latest")
    assert latest.state == "cancelled"
    resumed = resume_run(workspace, latest.id)
    assert (resumed.run_id, resumed.asked, resumed.count("succeeded")) == (latest.id, 2, 2)
    with pytest.raises(WorkflowError, match=r"has succeeded.*mlcore tune breakdown"):
        resume_run(workspace, latest.id)
    workspace.metadata.close()


def test_a_search_is_not_resumed_with_another_one(searched, opened, monkeypatch):
    def interrupting(self, trial):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(StudyMirror, "trial", interrupting)
        tune(opened)
    edit(searched / "training" / "breakdown.py", "seed=5", "seed=6")
    changed = open_workspace(searched)
    with pytest.raises(WorkflowError, match="these have changed: search"):
        resume_run(changed, opened.metadata.get_run("latest").id)
    changed.metadata.close()


def test_a_search_done_again_is_the_same_to_the_bit(opened):
    tuned = tune(opened, trials=3)

    done = reproduce_run(opened, tuned.run_id)

    assert done.same
    assert [one.step for one in done.steps] == ["dataset", "search"]


def test_a_pipeline_without_a_search_is_refused_with_its_name_and_the_way_out(machines, capsys):
    code = run(["--root", str(machines), "tune", "breakdown"])

    told = capsys.readouterr()
    assert (code, told.out) == (2, "")
    assert 'TrainingPipeline "breakdown": declares no search' in told.err
    assert "search=ml.Search(" in told.err
    assert run(["--root", str(machines), "tune", "breakdwon"]) == 2
    assert 'Did you mean "breakdown"' in capsys.readouterr().err
    assert run(["--root", str(machines), "--json", "runs", "list"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"trials": 0}, "trials is 0"),
        ({"parallel": -1}, "parallel is -1"),
        ({"within": "30"}, '"30" is not a duration'),
        ({"within": "0s"}, '"0s" is no time to search in'),
    ],
)
def test_what_is_no_number_and_no_time_is_refused_before_anything_is_run(opened, asked, message):
    with pytest.raises(UsageError, match=message):
        plan_tuning(opened, "breakdown", **asked)
    assert opened.metadata.list_runs() == []


def test_a_search_that_does_not_fit_its_trainer_is_refused_before_the_training_set_is_built(machines):
    declare(machines, 'search=ml.Search(space={"max_dept": ml.Int(1, 6)}),')
    workspace = open_workspace(machines)
    with pytest.raises(SpecError, match='"max_dept" is not a setting of XGBoost'):
        plan_tuning(workspace, "breakdown")
    assert workspace.metadata.list_runs() == []
    workspace.metadata.close()


def test_a_search_of_which_no_trial_ends_well_fails_and_says_why(machines):
    declare(machines, 'search=ml.Search(trials=2, space={"params.gamma": ml.Float(-2, -1)}),')
    workspace = open_workspace(machines)
    with pytest.raises(TrainError, match="none of 2 trials reached its end"):
        tune(workspace)
    assert workspace.metadata.get_run("latest").state == "failed"
    workspace.metadata.close()


def test_a_search_is_told_as_a_table_and_listed_as_one(searched, capsys):
    assert run(["--root", str(searched), "tune", "breakdown", "--trials", "2", "--in-process"]) == 0
    told = capsys.readouterr().out
    assert run(["--root", str(searched), "runs", "list"]) == 0
    listed = capsys.readouterr().out

    assert "trials  2 to the end, 0 ended early, 0 failed" in told
    assert "best    trial " in told
    assert "the first to reach its end" in " ".join(told.split())
    assert {line.split()[0] for line in told.splitlines() if line.strip()} >= {"learning_rate", "max_depth"}
    assert told.endswith("write trials=2 into the pipeline's search, and then:\n$ mlcore train breakdown\n")
    assert "breakdown" in listed
    assert "(tune)" in listed
