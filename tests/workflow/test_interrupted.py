"""Runs whose driver was killed, cancelled or displaced: they go on where they ended, once, and with the same artifacts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import pytest

from mlflow_core.cli.boundary import run
from mlflow_core.config import Principal, SystemClock
from mlflow_core.errors import MetadataError, RunCancelled, WorkflowError
from mlflow_core.metadata import MetadataStore
from mlflow_core.workflow.cancelling import cancel_run
from mlflow_core.workflow.lease import driver_is_gone, end_lost_runs, lease_held
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.resuming import resume_run
from mlflow_core.workflow.training import run_pipeline
from tests.workflow.conftest import copied
from tests.workflow.projects import edit, enlarge, train

DRIVER = """
import os, signal, sys
from pathlib import Path
from mlflow_core.workflow import journal, runner, told
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.training import run_pipeline

at, name = sys.argv[2].split(":")

def killing(function, where):
    def killed(self, *arguments, **named):
        node = arguments[0]
        node = getattr(node, "name", node)
        if where == "before" and node == name:
            os.kill(os.getpid(), signal.SIGKILL)
        found = function(self, *arguments, **named)
        if where == "after" and node == name:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    return killed

if at == "made":  # the output is stored, nothing of it written down
    runner.Runner._note = killing(runner.Runner._note, "before")
elif at == "begun":
    runner.Runner._made = killing(runner.Runner._made, "before")
else:  # written down, just before the next step
    runner.Runner._step = killing(runner.Runner._step, "after")
run_pipeline(open_workspace(Path(sys.argv[1])), "worn")
"""


@pytest.fixture
def project(machines):
    """The enlarged example."""
    return enlarge(machines)


def killed_at(project, point):
    """Run the pipeline in a process of its own that is killed at a point; the run's id."""
    ended = subprocess.run(
        [sys.executable, "-c", DRIVER, str(project), point],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    workspace = open_workspace(project)
    found = workspace.metadata.get_run("latest")
    workspace.metadata.close()
    assert found.state == "running"
    return found


def outputs(metadata, run_id):
    """By step the digest of its output."""
    steps = metadata.list_steps(run_id)
    return {one.name: one.output_digest for one in steps if one.state == "succeeded"}


def test_a_run_whose_driver_was_killed_goes_on_and_gives_what_an_undisturbed_one_gives(repository, tmp_path):
    states = {}
    for point in ("begun:dataset", "made:train", "done:evaluate", "made:register"):
        project = enlarge(copied(repository, tmp_path / point.replace(":", "_")))
        found = killed_at(project, point)
        assert driver_is_gone(found.lease_owner)
        workspace = open_workspace(project)
        done = resume_run(workspace, found.id)
        metadata = workspace.metadata
        assert done.run_id == found.id
        assert metadata.get_run(found.id).state == "succeeded"
        assert [one.version for one in metadata.list_versions("worn")] == [1], point
        states[point] = outputs(metadata, found.id)
        attempts = [(one.name, one.state.value) for one in metadata.list_steps(found.id)]
        assert point.startswith("done") or (point.partition(":")[2], "crashed") in attempts
        metadata.close()
    undisturbed = enlarge(copied(repository, tmp_path / "undisturbed"))
    done = train(undisturbed, "worn")["worn"]
    workspace = open_workspace(undisturbed)
    expected = outputs(workspace.metadata, done.run_id)
    workspace.metadata.close()
    for point, found in states.items():
        assert {**found, "report": ""} == {**expected, "report": ""}, (
            f"{point}: only the report names its run"
        )


def test_a_run_that_succeeded_or_is_driven_is_not_resumed(project):
    done = train(project, "worn")["worn"]
    workspace = open_workspace(project)
    with pytest.raises(WorkflowError, match="has succeeded"):
        resume_run(workspace, done.run_id)

    other = workspace.metadata.create_run("worn")
    with lease_held(workspace.metadata, other.id), pytest.raises(WorkflowError, match="is driven by"):
        resume_run(workspace, other.id)
    workspace.metadata.close()


def test_a_run_is_not_resumed_with_other_declarations_which_are_named(project):
    found = killed_at(project, "done:dataset")
    edit(
        project / "machines" / "features.py",
        '"vibration", "mean", over="7d"',
        '"vibration", "mean", over="6d"',
    )

    workspace = open_workspace(project)
    with pytest.raises(WorkflowError, match="these have changed: view wear"):
        resume_run(workspace, found.id)
    assert workspace.metadata.get_run(found.id).state == "running", "it is left as it was"
    workspace.metadata.close()


def test_a_run_whose_driver_is_gone_is_cancelled_at_once(project):
    found = killed_at(project, "done:dataset")

    workspace = open_workspace(project)
    assert cancel_run(workspace.metadata, found.id, why="no need").state == "cancelled"
    assert workspace.metadata.get_run(found.id).lease_owner is None
    workspace.metadata.close()


def test_a_run_goes_on_with_the_sources_as_it_saw_them_first(project):
    found = killed_at(project, "done:dataset")
    readings = project / "machines" / "data" / "readings.parquet"
    os.utime(readings, (0, 0))

    workspace = open_workspace(project)
    done = resume_run(workspace, found.id)

    assert done.found == ("dataset",)
    workspace.metadata.close()


def test_two_drivers_never_drive_one_run(workspace):
    found = workspace.metadata.create_run("breakdown")
    began, errors = threading.Barrier(2), []

    def drive():
        store = MetadataStore(
            workspace.settings.metadata_url(),
            SystemClock(),
            Principal("ada", "os"),
            project=workspace.project.name,
        )
        began.wait()
        try:
            with lease_held(store, found.id):
                time.sleep(0.5)
        except MetadataError as error:
            errors.append(str(error))
        finally:
            store.close()

    threads = [threading.Thread(target=drive) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(errors) == 1
    assert "is driven by" in errors[0]


def test_a_driver_that_lost_its_lease_stops_and_writes_nothing_more(workspace, monkeypatch):
    from mlflow_core.workflow.training import fitting

    def other_driver():
        metadata = workspace.metadata
        latest = metadata.get_run("latest")
        metadata.finish_run(latest.id, "crashed", error="somebody said so")
        metadata.start_run(latest.id)
        metadata.take_lease(latest.id, "another:1:1:x", 600_000_000)

    other = threading.Thread(target=other_driver)

    def displaced(*_arguments, **_named):
        other.start()
        time.sleep(30)
        raise AssertionError("it was not stopped")

    monkeypatch.setattr(fitting, "fit", displaced)
    monkeypatch.setattr("mlflow_core.workflow.journal.lease_held", partial(lease_held, lease_s=0.6))
    with pytest.raises(WorkflowError, match="not this process's any more"):
        run_pipeline(workspace, "breakdown")
    other.join()

    latest = workspace.metadata.get_run("latest")
    assert (latest.state, latest.lease_owner) == ("running", "another:1:1:x")


def test_a_driver_that_slept_past_its_lease_starts_no_step_and_ends_no_run_of_another(workspace, monkeypatch):
    metadata, now = workspace.metadata, [0.0]
    monkeypatch.setattr("mlflow_core.workflow.lease._now_s", lambda: now[0])
    run_id = metadata.create_run("breakdown").id
    with lease_held(metadata, run_id, look_s=600) as hold:
        now[0] = 200.0
        hold.check()  # nobody else has it: it is taken again
        metadata.finish_run(run_id, "crashed", error="its lease ran out")
        metadata.start_run(run_id)
        metadata.take_lease(run_id, "another:1:1:x", 600_000_000)
        hold.check()  # by what it knows the lease still holds
        with pytest.raises(MetadataError, match="is driven by another"):
            metadata.finish_run(run_id, "succeeded", driver=hold.owner)
        now[0] = 400.0
        with pytest.raises(WorkflowError, match="not this process's any more"):
            hold.check()

    assert metadata.get_run(run_id).lease_owner == "another:1:1:x"


def test_whoever_finds_a_driver_dead_does_not_end_the_run_that_another_has_resumed(workspace, monkeypatch):
    metadata = workspace.metadata
    run_id = metadata.create_run("breakdown").id
    metadata.take_lease(run_id, "here:1:1:dead", 600_000_000)
    before = metadata.get_run(run_id)
    metadata.finish_run(run_id, "crashed", error="its driver was lost", driver="here:1:1:dead")
    metadata.start_run(run_id)
    metadata.take_lease(run_id, "here:2:2:alive", 600_000_000)

    monkeypatch.setattr("mlflow_core.workflow.lease.driver_is_gone", lambda _owner: True)
    monkeypatch.setattr(metadata, "list_runs", lambda **_named: [before])
    end_lost_runs(metadata)

    found = metadata.get_run(run_id)
    assert (found.state, found.lease_owner) == ("running", "here:2:2:alive")


def test_a_cancelled_run_stops_within_seconds_is_cancelled_and_can_be_resumed(
    workspace, machines, monkeypatch, capsys
):
    from mlflow_core.workflow.training import fitting

    fit, stopped = fitting.fit, []

    def long(*_arguments, **_named):
        latest = workspace.metadata.get_run("latest")
        assert run(["--root", str(machines), "runs", "cancel", latest.id, "--why", "wrong"]) == 0
        began = time.monotonic()
        try:
            while time.monotonic() - began < 20:
                time.sleep(0.05)
        finally:
            stopped.append(time.monotonic() - began)

    monkeypatch.setattr(fitting, "fit", long)
    with pytest.raises(RunCancelled, match="mlcore runs resume"):
        run_pipeline(workspace, "breakdown")

    latest = workspace.metadata.get_run("latest")
    assert (latest.state, latest.lease_owner) == ("cancelled", None)
    assert [one.state for one in workspace.metadata.list_steps(latest.id)] == ["succeeded", "cancelled"]
    assert stopped[0] < 10, "it was not left to its end"
    assert "is asked to stop" in capsys.readouterr().out
    monkeypatch.setattr(fitting, "fit", fit)
    assert resume_run(workspace, latest.id).found == ("dataset",)


def test_a_driver_that_a_shell_began_in_the_background_is_stopped_too_and_by_nobody_elses_interrupt(
    workspace,
):
    run_id = workspace.metadata.create_run("breakdown").id
    before, passed = signal.signal(signal.SIGINT, signal.SIG_IGN), []
    try:
        with (
            lease_held(workspace.metadata, run_id) as hold,
            pytest.raises(RunCancelled),
            hold.interruptible(),
        ):
            signal.raise_signal(signal.SIGINT)
            passed.append("a Ctrl-C in the shell")
            threading.Timer(0.2, hold.stop, ["cancelled"]).start()
            time.sleep(30)
            passed.append("the end")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)

    assert passed == ["a Ctrl-C in the shell"]


def test_a_driver_is_stopped_whatever_a_library_made_of_interrupts(workspace):
    run_id, heard = workspace.metadata.create_run("breakdown").id, []

    def handler(*_):
        heard.append("a library")

    before = signal.signal(signal.SIGINT, handler)
    try:
        with (
            lease_held(workspace.metadata, run_id) as hold,
            pytest.raises(RunCancelled),
            hold.interruptible(),
        ):
            signal.raise_signal(signal.SIGINT)
            threading.Timer(0.2, hold.stop, ["cancelled"]).start()
            time.sleep(30)
            heard.append("the end")
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)

    assert heard == ["a library"]


def test_work_that_swallows_an_interrupt_is_interrupted_again(workspace, monkeypatch):
    monkeypatch.setattr("mlflow_core.workflow.lease._AGAIN_S", 0.2)
    run_id, passed = workspace.metadata.create_run("breakdown").id, []
    with (
        lease_held(workspace.metadata, run_id, look_s=0.1) as hold,
        pytest.raises(RunCancelled),
        hold.interruptible(),
    ):
        workspace.metadata.request_cancel(run_id)
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            passed.append("swallowed")
        time.sleep(30)
        passed.append("the end")

    assert passed == ["swallowed"]


def test_the_log_of_a_run_is_readable_while_it_runs_and_kept_when_it_has_ended(workspace, monkeypatch):
    import json

    from mlflow_core.workflow.run_log import log_file
    from mlflow_core.workflow.training import fitting

    fit, seen = fitting.fit, []

    def looking(*arguments, **named):
        run = workspace.metadata.get_run("latest")
        seen.append(log_file(workspace.settings.root, run.id).read_text())
        return fit(*arguments, **named)

    monkeypatch.setattr(fitting, "fit", looking)
    done = run_pipeline(workspace, "breakdown")

    assert "step dataset: done" in seen[0]
    kept = {one.name: one.digest for one in workspace.metadata.list_artifacts(done.run_id)}
    lines = [json.loads(line) for line in workspace.artifacts.read_bytes(kept["log"]).splitlines()]
    assert lines[0]["message"] == f"run {done.run_id} begins"
    assert lines[-1]["message"] == f"run {done.run_id} succeeded"
    assert {"dataset", "train", "register"} <= {line.get("step") for line in lines}
