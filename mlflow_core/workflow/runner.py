"""The one runner: walks a graph, takes outputs that can be found, makes the others, each in the store before the next.

Whatever a step needs it gets as artifacts, and a step's success is written down only when its output is stored. So a run
whose driver, worker or scheduler died is simply walked again: finished steps are found, the others are made. Steps whose
work is done elsewhere run beside each other; those that work in this process run one at a time, in its main thread,
where Ctrl-C reaches them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mlflow_core.errors import ArtifactError, ClusterLost, StepCrashed, StepTimeout, WorkflowError
from mlflow_core.metadata import Step
from mlflow_core.metadata.records import RunState
from mlflow_core.telemetry.logs import get_logger
from mlflow_core.workflow.derived import holds_rows, made_of, remove_outputs
from mlflow_core.workflow.graph import Graph, Node, NodeContext, Output, OutputKind
from mlflow_core.workflow.journal import Attempt, Journal, state_after
from mlflow_core.workflow.keys import cache_key, written
from mlflow_core.workflow.lease import Hold
from mlflow_core.workflow.told import Told, record_name

if TYPE_CHECKING:
    from distributed import Client

    from mlflow_core.workflow.calling import ForkServer

__all__ = ["Runner"]

_AT_ONCE = 4
# An output of at most so many bytes is hashed when it is found; of larger ones sizes are compared.
_HASHED = 8 << 20
_LOOK_S = 0.5

_log = get_logger(__name__)


@dataclass(frozen=True)
class Runner:
    """Runs graphs for one run.

    Attributes:
        journal: Writes the run down.
        hold: Says when to stop.
        draft: A folder for what steps write before it is stored.
        client: The cluster; None computes on this machine.
        server: Where processes of users' steps are started without a cluster.
        finds: Whether outputs that can be found are taken; else everything is made again.
        at_once: How many steps whose work is done elsewhere run beside each other.
        pause: Waits between attempts, so many seconds.
    """

    journal: Journal
    hold: Hold
    draft: Path
    client: Client | None = None
    server: ForkServer | None = None
    finds: bool = True
    at_once: int = _AT_ONCE
    pause: Callable[[float], None] = field(default=time.sleep)

    def run(self, graph: Graph) -> Mapping[str, Output]:
        """Run the steps of a graph, each after those that it waits for.

        When a step fails, those that run beside it are let finish, so that their outputs are found next time; nothing
        new is started. On Ctrl-C, a cancel and a lost lease they are stopped.

        Returns:
            The output of each step.

        Raises:
            MlcoreError: A step failed, the run was cancelled, or another driver has it.
        """
        done: dict[str, Output] = {}
        running: dict[Future[Output], str] = {}
        with ThreadPoolExecutor(self.at_once, thread_name_prefix="step") as pool:
            try:
                while len(done) < len(graph.nodes):
                    self._next(graph, done, running, pool)
                    self._collect(done, running)
            except KeyboardInterrupt:
                self.hold.stop("cancelled")
                raise
        return {name: done[name] for name in graph.nodes}

    def _next(
        self,
        graph: Graph,
        done: dict[str, Output],
        running: dict[Future[Output], str],
        pool: ThreadPoolExecutor,
    ) -> None:
        """Start whatever can run elsewhere; then do one step here, or wait until one of the others has ended."""
        begun = {*done, *running.values()}
        ready = [
            node for node in graph.nodes.values() if node.name not in begun and done.keys() >= {*node.before}
        ]
        for node in ready:
            if node.aside:
                running[pool.submit(self._step, node, dict(done))] = node.name
        here = next((node for node in ready if not node.aside), None)
        if here is not None:
            done[here.name] = self._step(here, done)
        while running and here is None and not any(one.done() for one in running):
            wait(running, timeout=_LOOK_S, return_when=FIRST_COMPLETED)

    def _collect(self, done: dict[str, Output], running: dict[Future[Output], str]) -> None:
        for future in [one for one in running if one.done()]:
            done[running.pop(future)] = future.result()

    def _step(self, node: Node, done: Mapping[str, Output]) -> Output:
        inputs = {name: done[name] for name in node.needs}
        digests = {name: output.digest for name, output in inputs.items()}
        key, parts = cache_key(node.key, digests), written(node.key, digests)
        there = None if node.fresh or not self.finds else self.journal.metadata.find_cached_step(key)
        return self._tried(node, inputs, key, parts, there)

    def _tried(
        self,
        node: Node,
        inputs: Mapping[str, Output],
        key: str,
        parts: Mapping[str, object],
        there: Step | None,
    ) -> Output:
        """Take the output that is there, or make it, again after crashes as often as the step allows."""
        for again in range(node.retries + 1):
            try:
                self.hold.check()
                with (
                    ExitStack() as held,
                    self.journal.attempt(
                        node.name, cache_key=key, cache_parts=parts, aside=node.aside
                    ) as attempt,
                ):
                    found = None if there is None else self._found(node, attempt, there)
                    output = found or self._made(node, inputs, attempt, held)
                return self._held(attempt, output, inputs)
            except Exception as error:
                if again == node.retries or not _may_help(node, error):
                    raise
                seconds = node.backoff_s * 2**again
                _log.warning("step %s crashed and is tried again in %g s: %s", node.name, seconds, error)
                self._wait(seconds)
        raise AssertionError("a step has at least one attempt")

    def _wait(self, seconds: float) -> None:
        """Wait, but hear meanwhile that the run is to stop; longer while the client looks for a scheduler that it lost."""
        while seconds > 0 or (self.client is not None and self.client.status == "connecting"):
            self.hold.check()
            self.pause(min(seconds, _LOOK_S) if seconds > 0 else _LOOK_S)
            seconds -= _LOOK_S

    def _found(self, node: Node, attempt: Attempt, there: Step) -> Output | None:
        """Take an output that was made before; None if it, or what was told with it, is not whole any more."""
        artifacts, metadata = self.journal.artifacts, self.journal.metadata
        digest = there.output_digest
        names = {one.name: one for one in metadata.list_artifacts(there.run_id)}
        record = names.get(record_name(node.name))
        if digest is None or record is None or not artifacts.exists(digest):
            return None
        told = Told(metadata, artifacts, self.journal.run_id, attempt.id)
        try:
            if artifacts.about(digest).size <= _HASHED:
                artifacts.verify(digest)  # else a damaged one would be found, and fail who reads it, for ever
            output = Output(digest, cast(OutputKind, told.kind_of(record.digest)))
            if node.holds is not None and not node.holds(output):
                return None
            told.repeat(record.digest)
        except ArtifactError as error:
            _log.info("step %s is run again: its output %s", node.name, error)
            return None
        attempt.told, attempt.output_digest, attempt.found = told, digest, True
        told.record(output.kind, node.name)
        return output

    def _made(self, node: Node, inputs: Mapping[str, Output], attempt: Attempt, held: ExitStack) -> Output:
        draft = self.draft / f"{node.name}-{attempt.id}"
        draft.mkdir()
        context = NodeContext(
            run_id=self.journal.run_id,
            inputs=inputs,
            artifacts=self.journal.artifacts,
            told=attempt.told,
            client=self.client,
            server=self.server,
            draft=draft,
            progress=self.journal.progress,
            stopped=self.hold.stopped,
            held=held,
        )
        with self.hold.interruptible():
            output = node.work(context)
        self._note(node, attempt, output)
        attempt.output_digest = output.digest
        attempt.told.record(output.kind, node.name)
        return output

    def _held(self, attempt: Attempt, output: Output, inputs: Mapping[str, Output]) -> Output:
        """Refuse an output whose rows were erased while it was made; one who erases later finds it written down."""
        if not inputs or not holds_rows(attempt.name):
            return output
        artifacts, metadata = self.journal.artifacts, self.journal.metadata
        removed = metadata.removed_of([one.digest for one in inputs.values()])
        gone = {
            name: one.digest
            for name, one in inputs.items()
            if one.digest in removed or not artifacts.exists(one.digest)
        }
        if not gone:
            return output
        remove_outputs(made_of(metadata.list_outputs(), gone.values()), metadata, artifacts)
        raise WorkflowError(
            f"read what was removed meanwhile, as by an erasure: {', '.join(gone)}",
            object=f'step "{attempt.name}"',
            hint="Run the pipeline again.",
        )

    def _note(self, node: Node, attempt: Attempt, output: Output) -> None:
        """Put the output among the run's files, where collections of garbage look for what is needed."""
        media_type = "application/json" if output.kind == "value" else "application/octet-stream"
        artifact = self.journal.artifacts.about(output.digest, name=node.artifact, media_type=media_type)
        attempt.told.note(node.artifact, artifact)


def _may_help(node: Node, error: Exception) -> bool:
    """Whether a step that ended with an error may end well if it is tried again.

    What is done in this process may raise any error of a user's network or function, or need more memory than there
    is: that would come again.
    """
    lost = isinstance(error, StepCrashed | StepTimeout | ClusterLost)
    return state_after(error) == RunState.CRASHED and (node.aside or lost)
