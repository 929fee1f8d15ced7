"""Steps of a user's own that need no model: training waits for them, and one that fails keeps it from beginning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.errors import StepFailed
from mlflow_core.workflow.graph import Graph
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.training import run_pipeline
from mlflow_core.workflow.training.nodes import graph_of
from mlflow_core.workflow.training.recipe import Options, Recipe
from mlflow_core.workflow.training.tuning import plan_tuning
from mlflow_core.workflow.workspace import Workspace
from tests.workflow.projects import edit, enlarge

CHECKS = '''

@ml.step
def known(busiest: pa.Table) -> dict:
    """Reads the dataset through another."""
    return {"rows": busiest.num_rows}


@ml.step
def given(*, rows: int = 3) -> int:
    """Reads nothing."""
    return rows
'''


@pytest.fixture
def project(machines: Path) -> Path:
    """The enlarged example with further steps, which are declared against their order."""
    root = enlarge(machines)
    steps = root / "machines" / "steps.py"
    steps.write_text(steps.read_text() + CHECKS)
    pipelines = root / "training" / "breakdown.py"
    edit(pipelines, "import busiest, summary", "import busiest, given, known, summary")
    edit(pipelines, "[busiest(top=3), summary()]", "[summary(), known(), busiest(top=3), given()]")
    return root


@contextmanager
def opened(root: Path) -> Iterator[Workspace]:
    workspace = open_workspace(root)
    try:
        yield workspace
    finally:
        workspace.metadata.close()


def planned(root: Path, **options: bool) -> Graph:
    """The plan of a run as the project is declared now."""
    with opened(root) as workspace:
        return graph_of(Recipe(workspace, workspace.pipeline("breakdown"), Options(**options)))


@pytest.mark.parametrize("place", ["in the process", "on workers"])
def test_a_check_that_fails_ends_the_run_before_anything_is_trained(project: Path, place: str) -> None:
    edit(
        project / "machines" / "steps.py",
        "    counts = dataset",
        '    raise ValueError("few")\n    counts = dataset',
    )
    cluster: Any = (
        open_cluster(ClusterSettings(workers=1, memory="1GiB")) if place == "on workers" else nullcontext()
    )
    with opened(project) as workspace, cluster as client:
        with pytest.raises(StepFailed, match="few"):
            run_pipeline(workspace, "breakdown", client=client)

        run = workspace.metadata.get_run("latest")
        attempts = {one.name: one.state.value for one in workspace.metadata.list_steps(run.id)}
    assert run.state == "failed"
    assert attempts == {"dataset": "succeeded", "given": "succeeded", "busiest": "failed"}


def test_training_begins_when_the_checks_have_ended_and_what_needs_the_model_comes_after(
    project: Path,
) -> None:
    with opened(project) as workspace:
        done = run_pipeline(workspace, "breakdown")
        steps = {one.name: one for one in workspace.metadata.list_steps(done.run_id)}
    ended = {name: one.ended_us for name, one in steps.items() if one.ended_us is not None}

    for check in ("given", "busiest", "known"):
        assert ended[check] <= steps["train"].started_us, check
    assert steps["summary"].started_us >= ended["evaluate"]


def test_whatever_is_trained_or_searched_waits_and_its_key_is_the_same_without_checks(project: Path) -> None:
    checks = ("known", "busiest", "given")
    with_steps = planned(project, compare=True)
    trained = [name for name in with_steps.nodes if name.startswith("train")]
    assert len(trained) > 1
    assert all(with_steps.nodes[name].after == checks for name in trained)

    pipelines = project / "training" / "breakdown.py"
    edit(pipelines, "[summary(), known(), busiest(top=3), given()]", "[]")
    without = planned(project)
    assert without.nodes["train"].after == ()
    assert without.nodes["train"].key == with_steps.nodes["train"].key

    edit(
        pipelines,
        "steps=[]",
        'steps=[known(), busiest()], search=ml.Search(trials=2, space={"max_depth": ml.Int(2, 4)})',
    )
    searched = planned(project)
    assert searched.nodes["search"].after == ("known", "busiest")
    with opened(project) as workspace:
        alone = graph_of(plan_tuning(workspace, "breakdown"))
    assert {name: node.after for name, node in alone.nodes.items()} == {"dataset": (), "search": ()}
    assert alone.nodes["search"].key == searched.nodes["search"].key
