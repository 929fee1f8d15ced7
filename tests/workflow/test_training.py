"""A pipeline run: what is recorded when it goes well, when the gate fails, and when something breaks."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import xgboost

import mlflow_core as ml
from mlflow_core.cli.boundary import run
from mlflow_core.config import FixedClock, Principal
from mlflow_core.engine.retrieve import retrieve_to_shards
from mlflow_core.errors import GateFailed, SourceError, TrainError, UnknownNameError
from mlflow_core.metadata import MetadataStore
from mlflow_core.train.models.model import Model
from mlflow_core.workflow.lease import lease_held
from mlflow_core.workflow.pipeline_dataset import build_for_pipeline
from mlflow_core.workflow.told import Told
from mlflow_core.workflow.training import run_pipeline


def with_pipeline(workspace, **changes):
    """The workspace with its pipeline declared otherwise."""
    spec = workspace.pipeline("breakdown")
    fields = {
        name: getattr(spec, name) for name in ("data", "trainer", "evaluate", "slices", "baselines", "gate")
    }
    made = ml.TrainingPipeline("breakdown", register=spec.register_as, **{**fields, **changes})
    return replace(workspace, project=replace(workspace.project, pipelines={"breakdown": made}))


def test_a_run_leaves_its_steps_figures_dataset_report_and_a_model_that_loads(workspace):
    trained = run_pipeline(workspace, "breakdown")

    store = workspace.metadata
    run = store.get_run(trained.run_id)
    assert run.state == "succeeded"
    assert [(step.name, step.state) for step in store.list_steps(run.id)] == [
        (name, "succeeded") for name in ("dataset", "train", "evaluate", "report", "register")
    ]
    assert store.get_dataset(run.dataset_id).content_hash == trained.dataset.artifact.digest
    auc = store.get_metrics(run.id, "test.auc")[0]
    assert auc.low < auc.value < auc.high
    assert auc.value > 0.6, "heat and wear tell of a breakdown"
    files = {file.name for file in store.list_artifacts(run.id)}
    assert {"dataset", "evaluation.json", "model", "report.html"} <= files
    version = store.resolve_model("breakdown@candidate")
    assert (version.version, version.run_id) == (1, run.id)
    model = Model.load(workspace.artifacts.fetch_tree(version.artifact_digest, workspace.workdir / "fetched"))
    assert model.metadata["service"] == "machine_health"
    assert model.metadata["clock"] == "served"
    assert trained.report.read_text().startswith("<!")


def test_the_same_recipe_gives_the_same_dataset_and_another_clock_another_one(workspace):
    spec = workspace.pipeline("breakdown")

    first, record = build_for_pipeline(workspace, spec)
    again, same = build_for_pipeline(workspace, spec)
    other, another = build_for_pipeline(workspace, spec, clock="event")

    assert first.artifact.digest == again.artifact.digest
    assert record.id == same.id
    assert other.artifact.digest != first.artifact.digest
    assert another.clock == "event"


def test_files_written_again_with_the_same_rows_give_the_same_dataset(workspace):
    spec = workspace.pipeline("breakdown")
    first, record = build_for_pipeline(workspace, spec)
    readings = workspace.project.repo / "data" / "readings.parquet"
    os.utime(readings, (0, 0))

    again, same = build_for_pipeline(workspace, spec)

    assert again.artifact.digest == first.artifact.digest
    assert same.id == record.id
    assert again.sources != first.sources, "the record says which files they were, the content does not"


def test_a_source_that_changes_while_it_is_read_makes_no_dataset(workspace, monkeypatch):
    readings = workspace.project.repo / "data" / "readings.parquet"

    def late(*arguments, **named):
        os.utime(readings, (0, 0))
        return retrieve_to_shards(*arguments, **named)

    monkeypatch.setattr("mlflow_core.engine.dataset.compute.retrieve_to_shards", late)
    with pytest.raises(SourceError, match="readings changed while the dataset was built"):
        build_for_pipeline(workspace, workspace.pipeline("breakdown"))
    assert workspace.metadata.list_datasets() == []


def test_the_same_pipeline_trained_anew_gives_the_same_model_byte_for_byte_which_is_one_version(workspace):
    first = run_pipeline(workspace, "breakdown")
    second = run_pipeline(workspace, "breakdown", fresh=True)

    assert "train" not in second.found
    digests = [
        next(step.output_digest for step in workspace.metadata.list_steps(one.run_id) if step.name == "train")
        for one in (first, second)
    ]
    assert digests[0] == digests[1]
    assert [one.version for one in workspace.metadata.list_versions("breakdown")] == [1]
    assert (first.version, second.version) == (1, 1)


def test_a_gate_that_does_not_hold_registers_nothing_and_keeps_the_report(workspace):
    strict = with_pipeline(workspace, gate=ml.Gate(metric="auc", at_least={"auc": 0.999}))

    with pytest.raises(GateFailed, match=r"0\.999"):
        run_pipeline(strict, "breakdown")

    run = workspace.metadata.get_run("latest")
    assert run.state == "failed"
    assert "0.999" in run.error
    assert "report.html" in {file.name for file in workspace.metadata.list_artifacts(run.id)}
    assert workspace.metadata.list_models() == []
    assert [step.state for step in workspace.metadata.list_steps(run.id)][-1] == "failed"


def test_a_second_model_is_compared_with_the_champion_on_the_same_rows(workspace):
    trained = run_pipeline(workspace, "breakdown")
    workspace.metadata.move_alias("breakdown", "champion", trained.version, "the first")
    wary = with_pipeline(workspace, gate=ml.Gate(metric="auc", better_than="champion"))

    with pytest.raises(GateFailed, match="champion"):
        run_pipeline(wary, "breakdown")

    assert workspace.metadata.aliases("breakdown") == {"candidate": 1, "champion": 1}


def test_an_alias_move_carries_the_gates_evidence(workspace):
    mild = with_pipeline(workspace, gate=ml.Gate(metric="auc", at_least={"auc": 0.5}))

    run_pipeline(mild, "breakdown")

    move = workspace.metadata.alias_history("breakdown")[-1]
    assert move.evidence["passed"] is True
    assert move.evidence["checks"][0]["evidence"]["limit"] == 0.5


def test_each_clock_is_measured_in_its_own_test_and_in_service(workspace):
    trained = run_pipeline(workspace, "breakdown", compare=True)

    assert [one.clock for one in trained.clocks.results] == ["served", "known", "event"]
    served = trained.clocks.results[0]
    assert served.pretended.value == served.lost.value == 0.0
    assert trained.clocks.rows == trained.dataset.manifest["rows"]["test"]
    assert served.own.value == pytest.approx(trained.evaluation.score("auc").value)


def test_a_label_without_a_positive_fails_the_run_and_says_so(workspace):
    spec = workspace.pipeline("breakdown")
    never = spec.data.model_copy(update={"label": ml.Label("broke > 100", name="breaks")})

    with pytest.raises(TrainError, match="true in none"):
        run_pipeline(with_pipeline(workspace, data=never), "breakdown")

    run = workspace.metadata.get_run("latest")
    assert run.state == "failed"
    assert "true in none" in run.error


def test_a_check_that_does_not_hold_stops_the_run_before_anything_is_stored(machines, workspace):
    features = machines / "machines" / "features.py"
    features.write_text(features.read_text().replace("at_most=150", "at_most=10"))
    from mlflow_core.workflow.project import open_workspace

    hot = open_workspace(machines)
    with pytest.raises(SourceError, match="from 0 to 10"):
        run_pipeline(hot, "breakdown")

    assert hot.metadata.list_datasets() == []
    hot.metadata.close()


def test_an_unexpected_error_leaves_a_crashed_run(workspace, monkeypatch):
    def broken(*_args, **_kwargs):
        raise MemoryError("no more memory")

    monkeypatch.setattr("mlflow_core.workflow.training.fitting.fit", broken)
    with pytest.raises(MemoryError):
        run_pipeline(workspace, "breakdown")

    run = workspace.metadata.get_run("latest")
    assert run.state == "crashed"
    assert run.error == "MemoryError: no more memory"


def test_a_full_disk_fails_the_run_leaves_no_draft_and_is_said_in_one_line(
    machines, workspace, monkeypatch, capsys
):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mlflow_core.engine.files.shards.pq.write_table", full)
    assert run(["--root", str(machines), "train", "breakdown", "--in-process"]) == 1

    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert told == [
        "error: the disk is full. Free some space, then try again; what was written half is taken away."
    ]
    assert workspace.metadata.get_run("latest").state == "failed"
    assert list(workspace.workdir.iterdir()) == []
    files = workspace.metadata.list_artifacts("latest")
    assert sorted(file.name for file in files) == ["environment", "log"]
    assert set(workspace.artifacts.list()) == {file.digest for file in files}


def test_ctrl_c_cancels_the_run_and_its_step(workspace, monkeypatch):
    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("mlflow_core.workflow.training.fitting.fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(workspace, "breakdown")

    run = workspace.metadata.get_run("latest")
    assert (run.state, run.lease_owner) == ("cancelled", None)
    assert [step.state for step in workspace.metadata.list_steps(run.id)] == ["succeeded", "cancelled"]


DRIVER = """
import os, signal, sys
from pathlib import Path
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.training import fitting, run_pipeline

def killed(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)

fitting.fit = killed
run_pipeline(open_workspace(Path(sys.argv[1])), "breakdown")
"""


def test_a_killed_run_is_lost_when_its_lease_runs_out_and_the_next_run_ends_it(machines, workspace):
    ended = subprocess.run([sys.executable, "-c", DRIVER, str(machines)], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr

    run = workspace.metadata.get_run("latest")
    assert run.state == "running"
    assert not run.is_lost(run.lease_until_us), "its driver may only be slow"
    later = FixedClock(run.lease_until_us + 1)
    assert run.is_lost(later.now_us())
    store = MetadataStore(
        workspace.settings.metadata_url(), later, Principal("ada", "os"), project=workspace.project.name
    )
    run_pipeline(replace(workspace, metadata=store), "breakdown")

    lost = store.get_run(run.id)
    assert lost.state == "crashed"
    assert "was lost" in lost.error
    assert [step.state for step in store.list_steps(run.id)] == ["succeeded", "crashed"]
    assert store.resolve_model("breakdown").version == 1
    store.close()


def test_a_lease_is_renewed_while_its_driver_lives(workspace):
    run = workspace.metadata.create_run("breakdown")

    with lease_held(workspace.metadata, run.id, lease_s=0.3):
        first = workspace.metadata.get_run(run.id).lease_until_us
        time.sleep(0.8)
        assert workspace.metadata.get_run(run.id).lease_until_us > first
        assert workspace.metadata.end_lost_runs() == []


def test_a_run_says_what_it_ran_on(workspace):
    trained = run_pipeline(workspace, "breakdown")

    assert workspace.metadata.get_run(trained.run_id).environment["xgboost"] == xgboost.__version__


def test_an_unknown_pipeline_names_the_nearest(workspace):
    with pytest.raises(UnknownNameError, match='Did you mean "breakdown"'):
        run_pipeline(workspace, "breakdwon")


def test_a_search_decides_the_settings_is_recorded_and_is_not_run_twice(workspace):
    search = ml.Search(trials=3, space={"max_depth": ml.Int(1, 4)}, pruner=None, seed=5)
    searching = with_pipeline(workspace, search=search)

    trained = run_pipeline(searching, "breakdown")
    again = run_pipeline(searching, "breakdown")

    store = workspace.metadata
    steps = [step.name for step in store.list_steps(trained.run_id)]
    assert steps == ["dataset", "search", "train", "evaluate", "report", "register"]
    result = json.loads(kept(workspace, trained.run_id, "search.json"))
    trials = store.list_trials(store.get_study(result["study"]["name"]).id)
    assert [trial.state for trial in trials] == ["succeeded"] * 3
    assert {trial.run_id for trial in trials} == {trained.run_id}
    best = min(trials, key=lambda trial: (trial.value, trial.number))
    assert store.get_params(trained.run_id)["trainer.max_depth"] == best.params["max_depth"]
    assert json.loads(kept(workspace, again.run_id, "search.json"))["best"] == result["best"]


def kept(workspace, run_id, name):
    """What a run left under a name."""
    artifact = next(one for one in workspace.metadata.list_artifacts(run_id) if one.name == name)
    return workspace.artifacts.read_bytes(artifact.digest)


def test_a_training_that_was_interrupted_goes_on_when_the_pipeline_is_run_again(workspace, monkeypatch):
    trainer = ml.XGBoost(rounds=12, checkpoint_every=4, max_depth=3, subsample=0.7, seed=3)
    pipeline = with_pipeline(workspace, trainer=trainer)
    told = Told.metrics

    def interrupting(self, metrics, *, step=None):
        told(self, metrics, step=step)
        if step == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Told, "metrics", interrupting)
        with pytest.raises(KeyboardInterrupt):
            run_pipeline(pipeline, "breakdown")
    resumed = run_pipeline(pipeline, "breakdown")
    undisturbed = run_pipeline(pipeline, "breakdown", fresh=True)

    assert "a training that was interrupted went on from its last checkpoint" in resumed.warnings
    assert undisturbed.warnings == ()
    assert resumed.found == ("dataset",)
    assert undisturbed.version == resumed.version, "the same bytes are the same version"
    assert list(workspace.trainings.iterdir()) == []
