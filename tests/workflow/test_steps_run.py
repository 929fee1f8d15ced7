"""Pipelines of users' steps alone: run, found again, and never an output under the key of code that did not make it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_core.errors import StepFailed
from mlflow_core.workflow.project import open_workspace
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
