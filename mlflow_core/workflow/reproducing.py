"""Reproduce a run: do all of it again from what it was made of, and hold each step's output against the recorded one.

Nothing is found and nothing is registered. A training set is built again while the sources are what they were; once they
have moved on, the recorded one is taken, and that is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from mlflow_core.errors import ArtifactError, WorkflowError
from mlflow_core.metadata import MetadataStore, Run, Step
from mlflow_core.metadata.records import RunState
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.spec import Pipeline, TrainingPipeline
from mlflow_core.telemetry.progress import Progress
from mlflow_core.workflow.driving import driving
from mlflow_core.workflow.environment import ENVIRONMENT, environment, environment_text, installed
from mlflow_core.workflow.graph import Graph, Node, NodeContext, Output
from mlflow_core.workflow.keys import content_of, rewritten
from mlflow_core.workflow.outputs import how_outputs_differ
from mlflow_core.workflow.resuming import check_specs, options_of, recorded_data, started_spec
from mlflow_core.workflow.specs import specs_of
from mlflow_core.workflow.steps_run import graph_of_steps
from mlflow_core.workflow.training.nodes import graph_of
from mlflow_core.workflow.training.recipe import DATASET, SEARCH, Recipe
from mlflow_core.workflow.training.releasing import REGISTER
from mlflow_core.workflow.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["ReproducedStep", "Reproduction", "reproduce_run"]

REPRODUCE = "reproduce"
"""The kind of such runs."""


@dataclass(frozen=True)
class ReproducedStep:
    """One step, then and now.

    Attributes:
        step: Its name.
        before: Digest of the recorded output.
        after: Digest of what it gave now.
        differences: Where they differ; empty where they are the same to the bit.
    """

    step: str
    before: str
    after: str
    differences: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether both are the same to the bit."""
        return self.before == self.after


@dataclass(frozen=True)
class Reproduction:
    """What a reproduction found.

    Attributes:
        original: The run that was reproduced.
        run_id: The run that did it again.
        steps: The steps that were compared, in their order.
        notes: What a person should know, e.g. that the sources have moved on.
    """

    original: str
    run_id: str
    steps: tuple[ReproducedStep, ...]
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether every output is the same to the bit."""
        return all(one.same for one in self.steps)


def reproduce_run(
    workspace: Workspace, run_id: str, *, client: Client | None = None, progress: Progress | None = None
) -> Reproduction:
    """Do a run again and compare.

    Args:
        workspace: The project.
        run_id: A run that has succeeded, as for ``MetadataStore.get_run``.
        client: The cluster; as many workers as then, where the number of ranks decides what is learned.
        progress: Who is told.

    Raises:
        WorkflowError: It has not succeeded, its declarations have changed since, or its sources have moved on and its
            training set is gone.
        MlcoreError: As when the pipeline is run.
    """
    metadata = workspace.metadata
    original = metadata.get_run(run_id)
    if original.state != RunState.SUCCEEDED:
        raise WorkflowError(
            f"is {original.state.value}", object=f"Run {original.id}", expected="one that has succeeded"
        )
    spec = started_spec(workspace, original)
    check_specs(original, specs_of(spec))
    recorded = _recorded(metadata, original)
    graph, notes, touched = _graph(workspace, spec, original, recorded)
    notes += _code_notes(graph, recorded)
    packages = installed()
    notes += _environment_notes(workspace, original, packages)
    again = metadata.create_run(
        original.pipeline,
        kind=REPRODUCE,
        parent_id=original.id,
        pipeline_fingerprint=fingerprint(spec),
        seed=original.seed,
        environment=environment(),
        code=original.code,
        tags=original.tags,
    ).id
    with driving(workspace, again, packages, client=client, progress=progress, finds=False) as driven:
        outputs = driven.runner.run(graph)
    steps = [
        _compared(workspace, name, recorded[name], output)
        for name, output in outputs.items()
        if name in recorded
    ]
    notes += [
        f"{one.step}: it differs, and the files of {', '.join(touched[one.step])} were touched or written again "
        "since: they may hold other rows, with the size and time of change of then"
        for one in steps
        if not one.same and one.step in touched
    ]
    return Reproduction(original.id, again, tuple(steps), tuple(notes))


def _recorded(metadata: MetadataStore, original: Run) -> dict[str, Step]:
    """The attempt at each step that ended well, by name."""
    return {
        step.name: step
        for step in metadata.list_steps(original.id)
        if step.state == RunState.SUCCEEDED and step.output_digest is not None
    }


def _graph(
    workspace: Workspace, spec: TrainingPipeline | Pipeline, original: Run, recorded: Mapping[str, Step]
) -> tuple[Graph, list[str], dict[str, list[str]]]:
    """What is done again, what a person should know of it, and by training set which sources' files are others now."""
    if not isinstance(spec, TrainingPipeline):
        return graph_of_steps(workspace, spec, installed()), [], {}
    pinned = recorded_data(workspace.metadata, original.id)
    recipe = Recipe(workspace, spec, options_of(original), recorded=pinned, shown_run=original.id)
    now = graph_of(replace(recipe, recorded={}))
    nodes, notes, touched = [], [], {}
    for node in graph_of(recipe).nodes.values():
        if node.name == REGISTER:
            continue
        was = node.key.data if node.name.startswith(DATASET) else {}
        holds = now.nodes[node.name].key.data
        moved = [one for one, told in was.items() if content_of(holds.get(one)) != content_of(told)]
        touched[node.name] = [one for one, told in was.items() if rewritten(told, holds.get(one))]
        if moved:
            node, note = _taken(workspace, node, recorded, moved)
            notes.append(note)
        nodes.append(node)
    if SEARCH in recorded:
        notes.append("search: trials that its study already has are not run again")
    return Graph.of(nodes), notes, {step: sources for step, sources in touched.items() if sources}


def _taken(
    workspace: Workspace, node: Node, recorded: Mapping[str, Step], moved: list[str]
) -> tuple[Node, str]:
    """The step that takes the recorded training set instead of building it."""
    digest = recorded[node.name].output_digest if node.name in recorded else None
    if digest is None or not workspace.artifacts.exists(digest):
        raise WorkflowError(
            f"cannot be built again, because {', '.join(moved)} changed, and the recorded one is gone",
            object=f'step "{node.name}"',
            hint="A training set may have been erased or collected: mlcore runs show tells which run used it.",
        )
    note = f"{node.name}: the recorded one was taken, because what it is built from has changed: {', '.join(moved)}"
    return replace(node, work=partial(_take, Output(digest, "dataset"))), note


def _take(output: Output, context: NodeContext) -> Output:  # noqa: ARG001 (the signature of work)
    return output


def _code_notes(graph: Graph, recorded: Mapping[str, Step]) -> list[str]:
    """Name what is other code than then: where an output differs, that is the first thing to know."""
    changed: dict[str, None] = {}
    for node in graph.nodes.values():
        if node.name in recorded:
            before, now = recorded[node.name].cache_parts.get("code", {}), node.key.code
            changed |= {name: None for name in {**before, **now} if before.get(name) != now.get(name)}
    return [f"the code is not that of then: {', '.join(changed)}"] if changed else []


def _environment_notes(workspace: Workspace, original: Run, packages: Mapping[str, str]) -> list[str]:
    kept = {one.name: one.digest for one in workspace.metadata.list_artifacts(original.id)}
    try:
        before = workspace.artifacts.read_bytes(kept.get(ENVIRONMENT, ""))
    except ArtifactError:
        return ["the run's environment is not known any more"]
    if before == environment_text(packages):
        return []
    return ["the environment is not the one of then: mlcore runs compare shows what changed"]


def _compared(workspace: Workspace, name: str, step: Step, output: Output) -> ReproducedStep:
    before = step.output_digest or ""
    if before == output.digest:
        return ReproducedStep(name, before, output.digest)
    differences = how_outputs_differ(workspace.artifacts, before, output.digest)
    return ReproducedStep(name, before, output.digest, differences)
