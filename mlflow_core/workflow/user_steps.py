"""A user's step as a step of a graph: what its output is found by, and the call of its function in a process of its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from mlflow_core.errors import ArtifactError, StepError
from mlflow_core.spec import Step
from mlflow_core.telemetry.logs import get_logger
from mlflow_core.workflow.calling import Called, Stored, call_of, call_step
from mlflow_core.workflow.code import digest_of_code
from mlflow_core.workflow.graph import Node, NodeContext, Output, OutputKind
from mlflow_core.workflow.keys import KeyParts
from mlflow_core.workflow.run_log import step_named
from mlflow_core.workflow.told import Usage
from mlflow_core.workflow.workspace import Workspace

__all__ = ["Product", "step_node"]

_log = get_logger(__name__)


class Product:
    """What a user's step reads under a name that no user's step has: an output of a step of every training.

    Args:
        node: The step that leaves it.
        file: Which of its files is meant; None for all of the output.
    """

    def __init__(self, node: str, file: str | None = None) -> None:
        self.node = node
        self.file = file


def step_node(
    step: Step,
    workspace: Workspace,
    key: Callable[..., KeyParts],
    *,
    products: Mapping[str, Product],
    seed: int,
) -> Node:
    """Make a step of a graph of a user's step.

    Args:
        step: The step.
        workspace: The project.
        key: Makes keys with what all steps of the run depend on.
        products: What it may read besides other users' steps, by name.
        seed: What its random numbers start from, unless it has a setting of that name.
    """
    project = (workspace.project.root, workspace.project.repo)
    sources = dict.fromkeys(step.inputs.values())
    needs = tuple(dict.fromkeys(products[one].node if one in products else one for one in sources))
    code = _code(step, project)
    params: dict[str, Any] = {"seed": seed, **step.params}
    if any(parameter != source for parameter, source in step.inputs.items()):
        params["inputs"] = dict(step.inputs)
    return Node(
        step.name,
        needs,
        key(step.name, params=params, code=code),
        partial(_call, step, workspace, products, seed, code),
        retries=step.retries,
        aside=True,
    )


def _code(step: Step, project: tuple[Path, ...]) -> Mapping[str, str]:
    function = step.function
    if function is None:
        module, _, name = step.import_path.partition(":")
        function = getattr(importlib.import_module(module), name)
    return digest_of_code(function, project=project)


def _call(
    step: Step,
    workspace: Workspace,
    products: Mapping[str, Product],
    seed: int,
    code: Mapping[str, str],
    context: NodeContext,
) -> Output:
    outputs = {
        source: _stored(context, products.get(source) or Product(source)) for source in step.inputs.values()
    }
    try:
        called = _called(step, workspace, outputs, seed, code, context)
    except StepError as error:
        context.told.usage = Usage(error.worker, error.memory_bytes, error.cpu_us)
        raise
    context.told.usage = Usage(called.worker, called.memory_bytes, called.cpu_us)
    return Output(called.digest, cast(OutputKind, called.kind))


def _called(
    step: Step,
    workspace: Workspace,
    outputs: Mapping[str, Stored],
    seed: int,
    code: Mapping[str, str],
    context: NodeContext,
) -> Called:
    return call_step(
        call_of(
            step,
            outputs,
            artifacts=context.artifacts,
            project=(workspace.project.root,),
            seed=seed,
            workdir=context.draft,
            code=code,  # as it is in the key: it may have been edited since
        ),
        client=context.client,
        timeout_s=None if step.timeout is None else step.timeout / 1e6,
        stopped=context.stopped,
        told=partial(_say, step.name),
        server=context.server,
    )


def _stored(context: NodeContext, product: Product) -> Stored:
    output = context.inputs[product.node]
    if product.file is None:
        return Stored(output.digest, output.kind)
    for file in context.artifacts.files_of(output.digest):
        if file.path == product.file:
            return Stored(file.digest, "value")
    raise ArtifactError(f'has no file "{product.file}"', object=f'output of step "{product.node}"')


def _say(name: str, line: str) -> None:
    with step_named(name):  # it may come from another thread
        _log.info("%s", line)
