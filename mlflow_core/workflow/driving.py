"""Driving a run: its lease, log, environment and drafts for the time of the work, and the runner that walks its graph."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_core.engine.files.drafts import draft_folder
from mlflow_core.metadata.acting import TOKEN_VARIABLE
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.spec import Pipeline, TrainingPipeline
from mlflow_core.telemetry.progress import Progress, SilentProgress
from mlflow_core.workflow.calling import ForkServer
from mlflow_core.workflow.environment import environment, keep_environment
from mlflow_core.workflow.journal import Journal
from mlflow_core.workflow.lease import end_lost_runs
from mlflow_core.workflow.mirror.mirroring import Stores, copied_when_ended
from mlflow_core.workflow.run_log import log_file
from mlflow_core.workflow.runner import Runner
from mlflow_core.workflow.sharing import claim
from mlflow_core.workflow.specs import specs_of
from mlflow_core.workflow.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["OPTIONS", "SPECS", "Driven", "begun", "driving"]

OPTIONS, SPECS = "options", "specs"
"""Under which names a run's tags and code say what was asked for, and which declarations it started with."""


@dataclass(frozen=True)
class Driven:
    """A run while it is driven.

    Attributes:
        journal: Writes it down.
        runner: Walks its graph.
        draft: A folder that is gone afterwards.
    """

    journal: Journal
    runner: Runner
    draft: Path

    @property
    def seconds(self) -> dict[str, float]:
        """How long each step took."""
        return {name: attempt.seconds for name, attempt in self.journal.steps.items()}

    @property
    def found(self) -> tuple[str, ...]:
        """The steps whose output was found."""
        return tuple(name for name, attempt in self.journal.steps.items() if attempt.found)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know, each thing once."""
        told: dict[str, None] = {}
        for attempt in self.journal.steps.values():
            told |= dict.fromkeys(attempt.told.warnings)
        return tuple(told)


def begun(
    workspace: Workspace,
    spec: Pipeline | TrainingPipeline,
    *,
    seed: int,
    kind: str = "train",
    options: Mapping[str, Any] | None = None,
) -> str:
    """Write down that a run of a pipeline begins, after those whose drivers were lost have been ended.

    Args:
        workspace: The project.
        spec: What it runs: the pipeline, where it was asked for with other trials or settings with these in it. The run's
            fingerprint is that of the pipeline as it is declared.
        seed: What its random numbers start from.
        kind: What it does, as for ``MetadataStore.create_run``.
        options: What was asked for.

    Returns:
        The run's id; nobody drives it yet.
    """
    end_lost_runs(workspace.metadata)
    return workspace.metadata.create_run(
        spec.name,
        kind=kind,
        pipeline_fingerprint=fingerprint(workspace.any_pipeline(spec.name)),
        seed=seed,
        environment=environment(),
        code={SPECS: specs_of(spec)},
        tags={} if options is None else {OPTIONS: options},
    ).id


@contextmanager
def driving(
    workspace: Workspace,
    run_id: str,
    packages: Mapping[str, str],
    *,
    client: Client | None = None,
    progress: Progress | None = None,
    finds: bool = True,
) -> Iterator[Driven]:
    """Drive a run for the time of a ``with`` block, and end it as the block ends; then it is copied, if that is asked for.

    Args:
        workspace: The project.
        run_id: The run; it is running.
        packages: The environment, as ``installed`` gave it.
        client: The cluster; None computes on this machine.
        progress: Who is told.
        finds: Whether outputs that can be found are taken.

    Raises:
        MetadataError: Another driver has it.
    """
    settings = workspace.settings
    journal = Journal(
        workspace.metadata,
        workspace.artifacts,
        run_id,
        progress or SilentProgress(),
        log=log_file(settings.root, run_id),
        redact=(
            *settings.secret_values(),
            *workspace.project.secret_values(),
            os.environ.get(TOKEN_VARIABLE, ""),
        ),
    )
    stores = Stores(settings, workspace.metadata, workspace.artifacts)
    with (
        copied_when_ended(stores, run_id, progress=progress),
        journal.whole() as hold,
        draft_folder(workspace.workdir, "run") as draft,
        ForkServer() as server,
    ):
        claim(workspace.metadata, workspace.artifacts, run_id)
        keep_environment(journal, packages)
        yield Driven(journal, Runner(journal, hold, draft, client, server, finds), draft)
