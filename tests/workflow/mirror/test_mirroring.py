"""Copies on a real MLflow server: the same values to the bit, each made once, whatever happens on the way."""

from __future__ import annotations

import json
import math
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mlflow_core.errors import WorkflowError
from mlflow_core.metadata import Metric
from mlflow_core.workflow.mirror.mirroring import copied_when_ended, ended_runs_of, mirror_runs
from mlflow_core.workflow.mirror.process import asking, server_of
from tests.servers.mlflow import free_port
from tests.workflow.mirror.conftest import VALUES, a_run, register


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def copies(mlflow, experiment, run):
    """MLflow's copies of a run."""
    found = mlflow.get_experiment_by_name(experiment)
    if found is None:
        return []
    return list(mlflow.search_runs([found.experiment_id], f"tags.`mlcore.run` = '{run.id}'"))


def history(mlflow, copy, name):
    return {one.step: one for one in mlflow.get_metric_history(copy.info.run_id, name)}


def test_a_copy_has_the_values_of_the_run_to_the_bit_and_its_tags_status_times_and_pages(
    asked, stores, mlflow, experiment, tmp_path
):
    run = a_run(stores)

    done = mirror_runs(stores, [run], asked=asked)

    (copy,) = copies(mlflow, experiment, run)
    assert [(one.run_id, one.mlflow_run, one.made, one.error) for one in done] == [
        (run.id, copy.info.run_id, True, None)
    ]
    losses = history(mlflow, copy, "loss")
    assert [bits(losses[step].value) for step in range(len(VALUES))] == [bits(value) for value in VALUES]
    ours = {one.step: one.at_us for one in stores.metadata.get_metrics(run.id, "loss")}
    assert {step: one.timestamp for step, one in losses.items()} == {
        step: at_us // 1_000 for step, at_us in ours.items()
    }
    ends = {name: copy.data.metrics[name] for name in ("test.auc", "test.auc.low", "test.auc.high")}
    assert ends == {"test.auc": 0.75, "test.auc.low": 0.7, "test.auc.high": 0.8}
    assert copy.data.params == {
        "rounds": "8",
        "rate": "0.1",
        "method": "hist",
        "metrics": '["auc"]',
        "none": "null",
    }
    assert (copy.info.status, copy.info.run_name) == ("FINISHED", run.id)
    assert (copy.info.start_time, copy.info.end_time) == (run.started_us // 1_000, run.ended_us // 1_000)
    told = {
        name: copy.data.tags[f"mlcore.{name}"] for name in ("project", "principal", "seed", "tags.options")
    }
    assert told == {
        "project": "default/parcels",
        "principal": "ann (token)",
        "seed": "1",
        "tags.options": '{"fresh":true}',
    }
    assert copy.data.tags["mlflow.source.git.commit"] == "c0ffee"
    (tmp_path / "fetched").mkdir()
    files = Path(mlflow.download_artifacts(copy.info.run_id, "", str(tmp_path / "fetched")))
    assert {path.name for path in files.iterdir()} == {"mlcore.json", "model_card.md", "report.html"}
    assert (files / "report.html").read_text() == "<p>good</p>"


def test_what_mlflow_cannot_hold_is_in_a_file_and_is_told(asked, stores, mlflow, experiment, tmp_path):
    run = stores.metadata.create_run("late")
    stores.metadata.log_params(run.id, {"a%b": 1, "a@b": 2, "long": "x" * 7_000, "..": 3})
    stores.metadata.log_metrics(run.id, {"worst": math.inf, "best": -math.inf, "recall@5": 0.5})
    run = stores.metadata.finish_run(run.id, "succeeded")

    (done,) = mirror_runs(stores, [run], asked=asked)

    (copy,) = copies(mlflow, experiment, run)
    assert copy.data.metrics["recall_5"] == 0.5
    assert sorted(copy.data.params) == sorted(
        ["a_b", next(n for n in copy.data.params if "-" in n), "_", "long"]
    )
    assert copy.data.params["a_b"] == "1"
    assert len(copy.data.params["long"]) == 6_000
    warnings = " ".join(done.warnings)
    for told in (
        '"recall@5" is "recall_5"',
        '"a%b" is "a_b"',
        "mlcore.json: long",
        "mlcore.json: best, worst",
    ):
        assert told in warnings
    path = mlflow.download_artifacts(copy.info.run_id, "mlcore.json", str(tmp_path))
    exact = json.loads(Path(path).read_text())
    assert {one["name"]: one["value"] for one in exact["metrics"]} == {
        "worst": "Infinity",
        "best": "-Infinity",
        "recall@5": 0.5,
    }
    assert exact["params"]["long"] == "x" * 7_000
    assert exact["renamed"]["metrics"] == {"recall@5": "recall_5"}


@pytest.mark.parametrize(
    ("state", "status"),
    [("succeeded", "FINISHED"), ("failed", "FAILED"), ("crashed", "FAILED"), ("cancelled", "KILLED")],
)
def test_a_copy_ends_as_the_run_did(asked, stores, mlflow, experiment, state, status):
    run = a_run(stores, state=state)

    mirror_runs(stores, [run], asked=asked)

    (copy,) = copies(mlflow, experiment, run)
    assert (copy.info.status, copy.data.tags["mlcore.state"]) == (status, state)
    assert copy.data.tags.get("mlcore.error") == (None if state == "succeeded" else "it broke")


def test_asked_again_nothing_is_made_and_a_run_that_went_on_is_brought_up_to_date(
    asked, stores, mlflow, experiment
):
    run = a_run(stores, state="failed")
    (first,) = mirror_runs(stores, [run], asked=asked)
    (again,) = mirror_runs(stores, [run], asked=asked)
    assert (again.made, again.mlflow_run) == (False, first.mlflow_run)

    stores.metadata.start_run(run.id)
    stores.metadata.log_metrics(run.id, [Metric("loss", 0.25, 99)])
    ended = stores.metadata.finish_run(run.id, "succeeded")
    (later,) = mirror_runs(stores, [ended], asked=asked)

    (copy,) = copies(mlflow, experiment, run)
    assert (later.made, later.mlflow_run) == (True, first.mlflow_run)
    assert copy.info.status == "FINISHED"
    values = mlflow.get_metric_history(copy.info.run_id, "loss")
    assert sorted(one.step for one in values) == [*range(len(VALUES)), 99]


def test_a_registered_model_is_copied_and_registered_where_asked_and_once(
    asked, open_stores, server, mlflow, experiment, tmp_path
):
    without = open_stores(tracking_uri=server.url, experiment=experiment, within="5m")
    run = a_run(without)
    digest = register(without, run, tmp_path / "model")
    name = "late"
    mirror_runs(without, [run], asked=asked)
    before = {one.version for one in mlflow.search_model_versions(f"name='{name}'")}

    stores = open_stores(tracking_uri=server.url, experiment=experiment, models="true", within="5m")
    (done,) = mirror_runs(stores, [run], asked=asked)
    (again,) = mirror_runs(stores, [run], asked=asked)

    versions = [one for one in mlflow.search_model_versions(f"name='{name}'") if one.version not in before]
    assert [(one.version, one.tags["mlcore.digest"], one.tags["mlcore.model"]) for one in versions] == [
        (done.version, digest, "late:1")
    ]
    assert (done.made, again.made) == (True, False)
    files = Path(mlflow.download_artifacts(done.mlflow_run, "model", str(tmp_path)))
    assert (files / "model.ubj").read_bytes() == b"trees"
    assert (files / "more" / "features.json").read_text() == "{}"
    assert len(copies(mlflow, experiment, run)) == 1


def test_a_copy_that_somebody_deleted_in_mlflow_stays_deleted(asked, stores, mlflow, experiment):
    run = a_run(stores)
    (first,) = mirror_runs(stores, [run], asked=asked)
    mlflow.delete_run(first.mlflow_run)

    (done,) = mirror_runs(stores, [run], asked=asked)

    assert (done.made, done.error) == (False, None)
    assert "was deleted in MLflow" in done.warnings[0]
    assert copies(mlflow, experiment, run) == []


def test_two_processes_that_copy_at_once_make_one_copy_of_each_run(stores, server, mlflow, experiment):
    runs = [a_run(stores, seed=seed) for seed in (1, 2)]
    root = stores.settings.root
    (root / "mlcore.toml").write_text(
        f'[project]\nname = "parcels"\n[mlflow]\ntracking_uri = "{server.url}"\nexperiment = "{experiment}"\nwithin = "5m"\n'
    )
    command = [sys.executable, "-m", "mlflow_core.cli", "--json", "--root", str(root), "runs", "mirror"]

    at_once = [
        subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True)
        for words in (["--all"], [runs[1].id, runs[0].id])
    ]
    told = [json.loads(one.communicate(timeout=120)[0]) for one in at_once]

    assert [one.returncode for one in at_once] == [0, 0]
    assert sum(one["made"] for answer in told for one in answer) == 2
    assert [len(copies(mlflow, experiment, run)) for run in runs] == [1, 1]


def test_a_server_that_is_not_there_costs_a_run_a_warning_and_the_copy_is_made_later(
    asked, open_stores, server, mlflow, experiment, caplog, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = f"127.0.0.1:{free_port()}"
    away = open_stores(tracking_uri=f"http://ann:hidden-word@{address}", experiment=experiment, within="5m")
    run = a_run(away)

    with copied_when_ended(away, run.id):
        pass

    (told,) = caplog.messages
    assert f"MLflow at http://{address}: " in told
    assert f"To do it later: mlcore runs mirror {run.id}" in told
    assert "hidden-word" not in told
    assert away.metadata.get_run(run.id).state == "succeeded"
    back = open_stores(tracking_uri=server.url, experiment=experiment, within="5m")
    done = mirror_runs(back, ended_runs_of(back.metadata), asked=asked)

    assert [(one.run_id, one.made) for one in done] == [(run.id, True)]
    assert len(copies(mlflow, experiment, run)) == 1


def test_a_server_that_hangs_is_given_up_within_the_time_and_the_copy_is_made_later(
    asked, stores, server, mlflow, experiment
):
    run = a_run(stores)
    with asking(server_of(stores.settings)) as own:
        own.ask({"do": "look"})
        server.pause()
        try:
            with pytest.raises(WorkflowError, match="gave no answer in time"):
                own.ask({"do": "look"}, within_s=1)
        finally:
            server.resume()
        assert own.is_gone

    (done,) = mirror_runs(stores, [run], asked=asked)

    assert done.made
    assert len(copies(mlflow, experiment, run)) == 1


_LOOKING = """\
import sys
from mlflow_core.workflow.mirror.process import Server, asking

with asking(Server(sys.argv[1])) as asked:
    print(asked._process.pid, flush=True)
    asked.ask({"do": "look"})
"""


def test_who_is_killed_while_a_server_hangs_leaves_no_process_behind():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen([sys.executable, "-c", _LOOKING, address], stdout=subprocess.PIPE) as asking_it:
            assert asking_it.stdout is not None
            asked = psutil.Process(int(asking_it.stdout.readline()))
            taken, _ = silent.accept()  # it waits for an answer now
            asking_it.send_signal(signal.SIGKILL)
        try:
            deadline = time.monotonic() + 20
            while asked.is_running() and asked.status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < deadline, "it works on for nobody"
                time.sleep(0.1)
        finally:
            taken.close()
            if asked.is_running():
                asked.kill()


def test_neither_feast_nor_files_of_its_folder_are_loaded_to_speak_to_mlflow(asked):
    asked.ask({"do": "look"})  # else one of the traps of the fixture would end it

    assert not asked.is_gone


def test_an_address_that_mlflow_does_not_know_is_an_error_that_names_it(open_stores):
    stores = open_stores(tracking_uri="ftp://somewhere/else")
    run = a_run(stores)

    with pytest.raises(WorkflowError, match="MLflow at ftp://somewhere/else"):
        mirror_runs(stores, [run])


def test_a_run_that_has_not_ended_is_not_copied(stores):
    run = stores.metadata.create_run("late")

    with pytest.raises(WorkflowError, match=f"Run {run.id}: is running"):
        mirror_runs(stores, [run])
    assert ended_runs_of(stores.metadata) == []
