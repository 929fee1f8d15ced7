"""The graph of a training pipeline: which steps there are, and which of them each one waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlflow_core.spec import Step
from mlflow_core.spec.steps import in_order
from mlflow_core.workflow.clocks import other_clocks
from mlflow_core.workflow.graph import Graph, Node
from mlflow_core.workflow.training.fitting import dataset_node, search_node, train_node
from mlflow_core.workflow.training.measuring import EVALUATION, clocks_node, evaluate_node
from mlflow_core.workflow.training.recipe import DATASET, EVALUATE, TRAIN, Recipe
from mlflow_core.workflow.training.releasing import gate_node, register_node, report_node
from mlflow_core.workflow.user_steps import Product, step_node

__all__ = ["graph_of"]

PRODUCTS = {
    "dataset": Product(DATASET),
    "model": Product(TRAIN),
    "evaluation": Product(EVALUATE, EVALUATION),
}
"""What users' steps may read of a training, and which step leaves it."""


def graph_of(recipe: Recipe) -> Graph:
    """Plan a run of a training pipeline; only what the sources hold is looked at.

    Args:
        recipe: The pipeline and what was asked for.

    Returns:
        Its steps. Nothing is trained before those of the user's have ended well that do not need the model, and the model
        is registered when all others have. Of a search alone they are the dataset and the search.

    Raises:
        PlanError: The dataset does not fit its sources.
        SourceError: A source cannot be listed.
    """
    spec = recipe.spec
    checks = _without_model(spec.steps)
    nodes: list[Node] = [dataset_node(recipe, recipe.options.clock)]
    if spec.search is not None:
        nodes.append(search_node(recipe, after=checks))
    if recipe.options.tune:
        return Graph.of(_tried_again(nodes, spec.retries))
    nodes += [train_node(recipe, after=checks), evaluate_node(recipe)]
    others = other_clocks(spec.data, recipe.plan.clock) if recipe.options.compare else ()
    for clock in others:
        name = f"{DATASET}_{clock}"
        nodes.append(dataset_node(recipe, clock, name))
        nodes.append(
            train_node(recipe, dataset=name, name=f"{TRAIN}_{clock}", prefix=f"{clock}.", after=checks)
        )
    if others:
        nodes.append(clocks_node(recipe, others))
    nodes.append(report_node(recipe, clocks=bool(others)))
    if spec.gate is not None:
        nodes.append(gate_node(recipe))
    own = [
        step_node(step, recipe.workspace, recipe.key, products=PRODUCTS, seed=spec.trainer.seed)
        for step in spec.steps
    ]
    nodes = [*_tried_again(nodes, spec.retries), *own]
    nodes.append(register_node(recipe, after=tuple(node.name for node in nodes)))
    return Graph.of(nodes)


def _tried_again(nodes: Sequence[Node], times: int) -> list[Node]:
    return [replace(node, retries=times) for node in nodes]


def _without_model(steps: Sequence[Step]) -> tuple[str, ...]:
    """The steps that read the dataset at most, themselves and through others: what they find can hold training back."""
    readable = {DATASET}
    for step in in_order(steps):
        if readable.issuperset(step.inputs.values()):
            readable.add(step.name)
    return tuple(step.name for step in steps if step.name in readable)
