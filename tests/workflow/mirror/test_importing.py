"""Runs of a real MLflow server taken over: everything that has a place here, once, and the rest named."""

from __future__ import annotations

import json
import struct

import pytest
from mlflow.entities import LoggedModelOutput, Param, RunTag
from mlflow.entities import Metric as TheirMetric

from mlflow_core.cli.boundary import run as mlcore
from mlflow_core.errors import WorkflowError
from mlflow_core.metadata import RunState
from mlflow_core.workflow.comparison import compare_runs
from mlflow_core.workflow.mirror.importing import FILES, import_runs
from mlflow_core.workflow.mirror.mirroring import mirror_runs
from mlflow_core.workflow.mirror.process import server_of
from tests.servers.mlflow import free_port
from tests.workflow.mirror.conftest import VALUES, a_run

BEGAN_MS, ENDED_MS = 1_700_000_000_123, 1_700_000_060_456


@pytest.fixture
def theirs(mlflow, experiment):
    """Make a run as MLflow's own users do; returns its id."""
    where = mlflow.create_experiment(experiment)

    def make(*, status="FINISHED", began_ms=BEGAN_MS, tags=(), metrics=()):
        run = mlflow.create_run(where, began_ms, {"team": "ops", **dict(tags)}, run_name="bold-bird")
        params = [Param("rate", "0.1"), Param("depth", "6"), Param("code", "007"), Param("fast", "True")]
        given = metrics or [
            TheirMetric("loss", value, 1_000 * step, step) for step, value in enumerate(VALUES)
        ]
        mlflow.log_batch(run.info.run_id, metrics=given, params=params, tags=[RunTag("mlflow.user", "bo")])
        if status != "RUNNING":
            mlflow.set_terminated(run.info.run_id, status, ENDED_MS)
        return run.info.run_id

    return make


@pytest.fixture
def taken(asked):
    """Import an experiment's runs."""

    def take(stores, experiment, **more):
        return import_runs(stores, server_of(stores.settings), experiment=experiment, asked=asked, **more)

    return take


def bits(value):
    return struct.pack("<d", value)


def test_a_run_has_its_params_history_tags_status_and_times_here_to_the_bit(
    taken, stores, theirs, experiment
):
    key = theirs()

    done = taken(stores, experiment)

    assert [(one.mlflow_run, one.new, one.notes) for one in done.runs] == [(key, True, ())]
    run = stores.metadata.get_run(done.runs[0].run_id)
    assert (run.kind, run.pipeline, run.state) == ("imported", f"mlflow/{experiment}", RunState.SUCCEEDED)
    assert (run.created_us, run.started_us, run.ended_us) == (
        BEGAN_MS * 1_000,
        BEGAN_MS * 1_000,
        ENDED_MS * 1_000,
    )
    assert run.id.startswith("20231114T221320-")
    assert stores.metadata.get_params(run.id) == {"rate": 0.1, "depth": 6, "code": "007", "fast": True}
    metrics = stores.metadata.get_metrics(run.id)
    assert [(one.step, bits(one.value), one.at_us) for one in metrics] == [
        (step, bits(value), step * 1_000_000) for step, value in enumerate(VALUES)
    ]
    told = run.tags["mlflow"]
    assert (told["run"], told["name"], told["tags"]["team"]) == (key, "bold-bird", "ops")
    assert stores.metadata.audit_entries(action="run.import")[0].object == f"run:{run.id}"
    assert stores.metadata.audit_verify().ok


def test_imported_again_nothing_is_new(taken, stores, theirs, experiment):
    theirs()
    first = taken(stores, experiment)

    again = taken(stores, experiment)

    assert [one.new for one in again.runs] == [False]
    assert again.runs[0].run_id == first.runs[0].run_id
    assert len(stores.metadata.list_runs()) == 1
    assert len(stores.metadata.audit_entries(action="run.import")) == 1


def test_failed_and_killed_runs_come_along_running_and_deleted_ones_are_told(
    taken, stores, mlflow, theirs, experiment
):
    failed, killed = theirs(status="FAILED"), theirs(status="KILLED", began_ms=BEGAN_MS + 1)
    running, deleted = theirs(status="RUNNING"), theirs()
    mlflow.delete_run(deleted)

    done = taken(stores, experiment)

    states = {one.mlflow_run: stores.metadata.get_run(one.run_id).state for one in done.runs}
    assert states == {failed: RunState.FAILED, killed: RunState.CANCELLED}
    assert [(one.mlflow_run, one.why) for one in done.left_out] == [
        (running, "it is running: import it when it has ended")
    ]
    assert done.deleted == 1


def test_values_that_share_a_step_are_numbered_anew_so_that_none_is_lost(taken, stores, theirs, experiment):
    theirs(metrics=[TheirMetric("loss", value, at, 0) for value, at in ((0.7, 10), (0.9, 5), (0.4, 20))])

    done = taken(stores, experiment)

    (imported,) = done.runs
    assert "numbered anew" in imported.notes[0]
    found = stores.metadata.get_metrics(imported.run_id, "loss")
    assert [(one.step, one.value, one.at_us) for one in found] == [
        (0, 0.9, 5_000),
        (1, 0.7, 10_000),
        (2, 0.4, 20_000),
    ]


def test_files_come_along_where_asked(taken, stores, mlflow, theirs, experiment, tmp_path):
    key = theirs()
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "roc.png").write_bytes(b"picture")
    mlflow.log_artifacts(key, str(tmp_path / "plots"), "plots")

    done = taken(stores, experiment, files=True)

    (kept,) = stores.metadata.list_artifacts(done.runs[0].run_id)
    assert kept.name == FILES
    folder = stores.artifacts.fetch_tree(kept.digest, tmp_path / "fetched")
    assert (folder / "plots" / "roc.png").read_bytes() == b"picture"


def test_logged_models_of_one_name_are_kept_apart(taken, stores, mlflow, theirs, experiment, tmp_path):
    key = theirs()
    where = mlflow.get_experiment_by_name(experiment).experiment_id
    for number, name in enumerate(("trees", "trees", "..")):
        model = mlflow.create_logged_model(where, name=None if name == ".." else name, source_run_id=key)
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "model.bin").write_text(str(number))
        mlflow.log_model_artifacts(model.model_id, str(tmp_path / str(number)))
        mlflow.finalize_logged_model(model.model_id, "READY")
        mlflow.log_outputs(key, [LoggedModelOutput(model.model_id, step=0)])

    done = taken(stores, experiment, files=True)

    assert done.left_out == ()
    (kept,) = stores.metadata.list_artifacts(done.runs[0].run_id)
    folder = stores.artifacts.fetch_tree(kept.digest, tmp_path / "fetched")
    found = sorted(path.read_text() for path in folder.glob("models/*/model.bin"))
    assert found == ["0", "1", "2"]


def test_a_child_knows_its_parent(taken, stores, theirs, experiment):
    parent = theirs()
    theirs(began_ms=BEGAN_MS + 1, tags={"mlflow.parentRunId": parent}.items())

    done = taken(stores, experiment)

    above, below = (stores.metadata.get_run(one.run_id) for one in done.runs)
    assert (above.parent_id, below.parent_id) == (None, above.id)


def test_a_run_that_the_mirror_made_is_left_where_it_is(taken, asked, stores, experiment):
    run = a_run(stores)
    mirror_runs(stores, [run], asked=asked)

    done = taken(stores, experiment)

    assert done.runs == ()
    assert done.left_out[0].why == f"it is the copy of run {run.id}"


def test_imported_runs_are_listed_shown_and_compared_like_others(
    stores, server, theirs, experiment, capsys, monkeypatch
):
    theirs()
    ours = a_run(stores)
    root = stores.settings.root
    (root / "mlcore.toml").write_text('[project]\nname = "parcels"\n[mlflow]\nwithin = "5m"\n')
    monkeypatch.chdir(root)
    capsys.readouterr()  # MLflow's client has told where to look at the run

    assert mlcore(["--json", "runs", "import", "--from", server.url, "--experiment", experiment]) == 0
    told = json.loads(capsys.readouterr().out)
    imported = told["runs"][0]["run_id"]

    assert mlcore(["--json", "runs", "list", f"mlflow/{experiment}"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(one["id"], one["kind"]) for one in listed] == [(imported, "imported")]
    assert mlcore(["runs", "show", imported]) == 0
    assert "succeeded" in capsys.readouterr().out
    rows = {
        (row.part, row.name): row
        for row in compare_runs(stores.metadata, stores.artifacts, imported, ours.id).rows
    }
    assert rows["params", "rate"].same
    assert rows["metrics", "test.auc"].only == "b"


def test_an_experiment_that_is_not_there_is_an_error_that_names_those_that_are(
    taken, stores, theirs, experiment
):
    with pytest.raises(WorkflowError, match=f'no experiment "{experiment}-x"; there are: .*Default'):
        taken(stores, f"{experiment}-x")


def test_a_server_that_is_not_there_is_one_clear_error(stores, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = server_of(stores.settings, tracking_uri=f"http://127.0.0.1:{free_port()}")

    with pytest.raises(WorkflowError, match=r"MLflow at http://127\.0\.0\.1"):
        import_runs(stores, away)
    assert stores.metadata.list_runs() == []
