"""How often a training's own steps are tried again: as its pipeline says, and without any effect on what it computes."""

from __future__ import annotations

import pytest

from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.workflow.specs import specs_of
from mlflow_core.workflow.training.nodes import graph_of
from mlflow_core.workflow.training.recipe import Recipe
from mlflow_core.workflow.workspace import Workspace


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_every_step_that_may_compute_on_a_cluster_is_tried_as_often_as_the_pipeline_says(
    workspace: Workspace, retries: int
) -> None:
    declared = workspace.pipeline("breakdown")
    spec = declared if retries == 1 else declared.model_copy(update={"retries": retries})

    nodes = graph_of(Recipe(workspace, spec)).nodes

    own = ("dataset", "train", "evaluate", "report")
    assert {name: nodes[name].retries for name in own} == dict.fromkeys(own, retries)
    assert nodes["register"].retries == 0


def test_how_often_it_is_tried_changes_neither_what_a_pipeline_is_nor_what_a_run_goes_on_with(
    workspace: Workspace,
) -> None:
    spec = workspace.pipeline("breakdown")
    patient = spec.model_copy(update={"retries": 3})

    assert fingerprint(patient) == fingerprint(spec)
    assert specs_of(patient) == specs_of(spec)
    before, after = (graph_of(Recipe(workspace, one)).nodes for one in (spec, patient))
    assert {name: node.key for name, node in after.items()} == {
        name: node.key for name, node in before.items()
    }
