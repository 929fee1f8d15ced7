"""A pipeline as a graph of steps: what each needs, what its output is found by, and the work that makes it.

A graph is a plan: it can be printed, and nothing has happened yet. A step gets from the steps before it nothing but
their outputs in the artifact store, so that one which runs after a resume, in another process, or beside others whose
outputs were found, runs the same code on the same input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.errors import PlanError, nearest
from mlflow_core.telemetry.progress import Progress
from mlflow_core.workflow.keys import KeyParts
from mlflow_core.workflow.told import Told

if TYPE_CHECKING:
    from distributed import Client

    from mlflow_core.workflow.calling import ForkServer

__all__ = ["Graph", "Node", "NodeContext", "Output", "OutputKind"]

OutputKind = Literal["table", "value", "file", "files", "dataset", "model"]


@dataclass(frozen=True)
class Output:
    """What a finished step left.

    Attributes:
        digest: Its artifact in the store: a file for a value, else a folder.
        kind: ``table`` (Parquet files), ``value`` (JSON), ``file``, ``files`` (anything), ``dataset`` or ``model``.
    """

    digest: str
    kind: OutputKind


@dataclass(frozen=True)
class NodeContext:
    """What a step's work is given.

    Attributes:
        run_id: The run.
        inputs: Outputs of the steps that it needs, by their names.
        artifacts: Where outputs are kept.
        told: Whom it tells settings, figures, files and warnings.
        client: The cluster; None computes on this machine.
        server: Where processes of users' steps are started without a cluster.
        draft: An empty folder, gone when the step has ended.
        progress: Who is told how far it has come.
        stopped: Whether the run was cancelled or lost its lease, so that the work is to end.
        held: What is to be held until it is written down how the step has ended.
    """

    run_id: str
    inputs: Mapping[str, Output]
    artifacts: ArtifactStore
    told: Told
    client: Client | None
    server: ForkServer | None
    draft: Path
    progress: Progress
    stopped: Callable[[], bool]
    held: ExitStack


@dataclass(frozen=True)
class Node:
    """One step of a pipeline.

    Attributes:
        name: Its name, unique in the graph.
        needs: Steps whose outputs it reads; their digests are part of its key.
        key: What else its output is found by.
        work: Makes the output.
        after: Steps that have to have ended well before it starts, but that it does not read.
        leaves: What its output is called among the run's files; its own name where empty.
        retries: How often it is tried again after a crash or a timeout; never after a user's error.
        backoff_s: Seconds before the first retry; each further one waits twice as long.
        aside: Whether the work is done elsewhere, in a child process or on a worker, so that several may run at once.
        fresh: Whether to run it even though its output could be found.
        holds: Whether an output that was found is still true of the world outside the store; for steps that change
            it, such as a registration.
    """

    name: str
    needs: tuple[str, ...]
    key: KeyParts
    work: Callable[[NodeContext], Output]
    after: tuple[str, ...] = ()
    leaves: str = ""
    retries: int = 0
    backoff_s: float = 5.0
    aside: bool = False
    fresh: bool = False
    holds: Callable[[Output], bool] | None = None

    @property
    def before(self) -> tuple[str, ...]:
        """All steps that have to have ended before it starts."""
        return (*self.needs, *self.after)

    @property
    def artifact(self) -> str:
        """What its output is called among the run's files."""
        return self.leaves or self.name


@dataclass(frozen=True)
class Graph:
    """Steps in an order in which they can run.

    Attributes:
        nodes: The steps by name; see ``of``.
    """

    nodes: Mapping[str, Node] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> Graph:
        """Order steps so that each comes after those that it needs; steps that could change places keep their order.

        Raises:
            PlanError: Two have one name, one needs a step that is not there, or some need each other in a circle.

        Example:
            >>> def work(context): ...
            >>> train = Node("train", ("dataset",), KeyParts(), work)
            >>> list(Graph.of([train, Node("dataset", (), KeyParts(), work)]).nodes)
            ['dataset', 'train']
        """
        given = list(nodes)
        named = {node.name: node for node in given}
        if len(named) < len(given):
            twice = next(node.name for node in given if named[node.name] is not node)
            raise PlanError(f'there are two steps "{twice}"', hint="Give one of them another name.")
        for node in given:
            for need in node.before:
                if need not in named:
                    raise PlanError(
                        f'needs a step "{need}", which is not there',
                        object=f'step "{node.name}"',
                        hint=nearest(need, named),
                    )
        ordered: dict[str, Node] = {}
        while len(ordered) < len(named):
            ready = next(
                (node for node in given if node.name not in ordered and set(node.before) <= ordered.keys()),
                None,
            )
            if ready is None:
                circle = ", ".join(name for name in named if name not in ordered)
                raise PlanError(f"steps need each other in a circle: {circle}")
            ordered[ready.name] = ready
        return cls(ordered)

    def describe(self) -> str:
        """The steps as lines, each with what it waits for."""
        lines = []
        for node in self.nodes.values():
            reads = f" reads {', '.join(node.needs)}" if node.needs else ""
            waits = f"{';' if reads else ''} after {', '.join(node.after)}" if node.after else ""
            lines.append(f"{node.name}{reads}{waits}")
        return "\n".join(lines)
