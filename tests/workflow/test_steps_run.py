"""Pipelines of users' steps alone: run, found again, and never an output under the key of code that did not make it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mlflow_core.cli.boundary import run as mlcore
from mlflow_core.errors import StepCrashed, StepFailed, StepTimeout
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.reproducing import reproduce_run
from mlflow_core.workflow.steps_run import run_steps

STEPS = '''"""Steps of which the first may be where somebody edits the second."""

from pathlib import Path

import mlflow_core as ml

FACTOR = 2


@ml.step
def first(*, edits: bool = False) -> int:
    if edits:
        file = Path(__file__)
        file.write_text(file.read_text().replace("FACTOR = 2", "FACTOR = 3"))
    return 10


@ml.step
def second(first: int) -> int:
    return first * FACTOR


plain = ml.Pipeline("plain", steps=[first(), second()])
edited = ml.Pipeline("edited", steps=[first(edits=True), second()])
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "parcels"
    for folder in ("feature_repo", "pipelines"):
        (root / folder).mkdir(parents=True)
    (root / "mlcore.toml").write_text('[project]\nname = "parcels"\n')
    (root / "pipelines" / "own.py").write_text(STEPS)
    return root


def run(root: Path, name: str) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Run a pipeline as it is declared now; what its steps left, and which were found."""
    workspace = open_workspace(root)
    try:
        done = run_steps(workspace, workspace.project.step_pipelines[name])
        left = {step: workspace.artifacts.read_bytes(one.digest) for step, one in done.outputs.items()}
    finally:
        workspace.metadata.close()
    return left, done.found


def test_steps_are_run_once_and_found_again_until_something_changes(project: Path) -> None:
    assert run(project, "plain") == ({"first": b"10", "second": b"20"}, ())
    assert run(project, "plain") == ({"first": b"10", "second": b"20"}, ("first", "second"))


def test_code_that_is_edited_while_the_run_is_at_work_is_not_run_under_the_key_of_the_old(
    project: Path,
) -> None:
    with pytest.raises(StepFailed, match=r"not the code that the run began with: pipelines\.own:FACTOR"):
        run(project, "edited")

    assert run(project, "plain")[0]["second"] == b"30"
    file = project / "pipelines" / "own.py"
    file.write_text(file.read_text().replace("FACTOR = 3", "FACTOR = 2"))
    assert run(project, "plain")[0]["second"] == b"20"


USING = '''"""Steps that use something up and end badly."""

import os
import time

import mlflow_core as ml


@ml.step
def crashes() -> int:
    block = bytearray(200_000_000)
    block[::4096] = b"x" * len(block[::4096])
    os._exit(3)


@ml.step(timeout="2s")
def waits() -> int:
    time.sleep(60)


crashing = ml.Pipeline("crashing", steps=[crashes()])
waiting = ml.Pipeline("waiting", steps=[waits()])
'''


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [("crashing", StepCrashed, "exit status 3"), ("waiting", StepTimeout, "timeout")],
)
def test_of_a_step_that_ended_badly_it_is_known_where_it_ran_and_what_it_used(
    project: Path, capsys: pytest.CaptureFixture[str], name: str, error: type[Exception], reason: str
) -> None:
    (project / "pipelines" / "own.py").write_text(USING)
    with pytest.raises(error):
        run(project, name)

    workspace = open_workspace(project)
    (step,) = workspace.metadata.list_steps("latest")
    workspace.metadata.close()
    assert step.state == "crashed"
    assert reason in (step.exit_reason or "")
    assert step.worker == socket.gethostname()
    assert (step.memory_bytes or 0) > (200_000_000 if name == "crashing" else 10_000_000)
    assert (step.cpu_us or 0) > 0
    assert mlcore(["--root", str(project), "runs", "show"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert reason in shown


def test_that_a_run_was_made_by_other_code_is_told_when_it_is_done_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(project, "plain")
    monkeypatch.setattr(
        "mlflow_core.workflow.steps_run.digest_of_package", lambda: "sha256:of-another-version"
    )

    workspace = open_workspace(project)
    found = reproduce_run(workspace, "latest")
    workspace.metadata.close()

    assert found.same
    assert "the code is not that of then: mlflow_core" in found.notes
