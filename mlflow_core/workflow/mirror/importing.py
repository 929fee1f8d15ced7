"""Taking MLflow's runs over into our metadata store: params, metrics with their whole history, tags, status, times, files.

A run is taken over once, known by MLflow's id; deleted runs, runs that have not ended, and copies that this project's own
mirror made are left out and named. Experiments' settings, traces, prompts, evaluation sets, inputs, and the registry with
its versions, aliases and stages have no place here and stay where they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mlflow_core.engine.files.drafts import draft_folder
from mlflow_core.errors import MlcoreError, UnknownNameError
from mlflow_core.metadata import ForeignFile, ForeignRun, MetadataStore, Metric, RunState
from mlflow_core.telemetry.progress import Progress, SilentProgress
from mlflow_core.workflow.mirror.mirroring import Stores
from mlflow_core.workflow.mirror.names import param_of_text
from mlflow_core.workflow.mirror.process import Asked, Server, asking
from mlflow_core.workflow.mirror.tags import RUN_TAG

__all__ = ["FILES", "Import", "ImportedRun", "LeftOut", "import_runs", "metrics_of", "pipeline_of"]

FILES: Final = "mlflow"
"""What a run's files are called among those of the imported run."""

_STATES: Final = {
    "FINISHED": RunState.SUCCEEDED,
    "FAILED": RunState.FAILED,
    "KILLED": RunState.CANCELLED,
}
_SOURCE: Final = {
    "commit": "mlflow.source.git.commit",
    "source": "mlflow.source.name",
    "branch": "mlflow.source.git.branch",
}
_PARENT: Final = "mlflow.parentRunId"


@dataclass(frozen=True)
class ImportedRun:
    """A run that was taken over.

    Attributes:
        run_id: Ours.
        mlflow_run: MLflow's id.
        experiment: What it was under.
        new: Whether it was taken over now; one that was there stays as it is.
        notes: What is otherwise than in MLflow.
    """

    run_id: str
    mlflow_run: str
    experiment: str
    new: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """A run that was not taken over, and why."""

    mlflow_run: str
    experiment: str
    why: str


@dataclass(frozen=True)
class Import:
    """What an import did.

    Attributes:
        server: Where the runs came from, without secrets.
        experiments: The experiments that were looked through.
        runs: What was taken over, in the order in which they began.
        left_out: What was not.
        deleted: How many runs are deleted there, which nobody looks at.
    """

    server: str
    experiments: tuple[str, ...]
    runs: tuple[ImportedRun, ...]
    left_out: tuple[LeftOut, ...]
    deleted: int


def import_runs(
    stores: Stores,
    server: Server,
    *,
    experiment: str | None = None,
    files: bool = False,
    asked: Asked | None = None,
    progress: Progress | None = None,
) -> Import:
    """Take the runs of an MLflow server over.

    Args:
        stores: Where they go.
        server: Where they come from.
        experiment: Only this one's runs; all active experiments' if None.
        files: Whether their artifacts, and the files of models that they logged, are copied too.
        asked: MLflow's process for that server, if one is at hand; None starts one.
        progress: Who is told.

    Raises:
        WorkflowError: MLflow is not installed, the server cannot be reached, or there is no such experiment.
        MetadataError: The runs cannot be written.
    """
    runs: list[ImportedRun] = []
    left: list[LeftOut] = []
    taking = _Taking(stores, server, files)
    with nullcontext(asked) if asked is not None else asking(server) as mlflow:
        listed = mlflow.ask({"do": "list", "experiment": experiment})
        shown = progress or SilentProgress()
        with shown.stage("importing from MLflow", len(listed["runs"]), "runs") as stage:
            for one in listed["runs"]:
                why = _why_not(stores.metadata, one)
                if why is None:
                    try:
                        runs.append(taking.one(mlflow, one))
                    except MlcoreError as error:
                        if mlflow.is_gone:
                            raise
                        why = str(error)
                if why is not None:
                    left.append(LeftOut(one["run"], one["experiment"], why))
                stage.advance()
    return Import(server.shown, tuple(listed["experiments"]), tuple(runs), tuple(left), listed["deleted"])


def pipeline_of(experiment: str) -> str:
    """What runs of an experiment are listed under: a name that no pipeline has, so that nobody takes one for the other.

    Example:
        >>> pipeline_of("Default")
        'mlflow/Default'
    """
    return f"mlflow/{experiment}"


def metrics_of(values: Sequence[Sequence[Any]]) -> tuple[list[Metric], tuple[str, ...]]:
    """Turn MLflow's values into metrics with one value a step.

    Args:
        values: Name, value, step and time in milliseconds of each.

    Returns:
        The metrics, and the names of those that had several values at one step, as where nobody gave a step: they are
        numbered anew in the order of step and time, so that none is lost and the last one stays the last.

    Example:
        >>> metrics_of([["loss", 0.5, 0, 2], ["loss", 0.7, 0, 1], ["auc", 0.9, 3, 2]])[1]
        ('loss',)
    """
    by_name: dict[str, list[Sequence[Any]]] = {}
    for value in values:
        by_name.setdefault(value[0], []).append(value)
    metrics, renumbered = [], []
    for name, history in by_name.items():
        ordered = sorted(history, key=lambda one: (one[2], one[3]))
        steps: Iterable[int] = [one[2] for one in ordered]
        if max(Counter(steps).values()) > 1:
            renumbered.append(name)
            steps = range(len(ordered))
        metrics += [
            Metric(name, float(one[1]), step, at_us=one[3] * 1_000)
            for one, step in zip(ordered, steps, strict=True)
        ]
    return metrics, tuple(renumbered)


def _why_not(metadata: MetadataStore, listed: Mapping[str, Any]) -> str | None:
    if listed["status"] not in _STATES:
        return f"it is {listed['status'].lower()}: import it when it has ended"
    ours = listed["tags"].get(RUN_TAG)
    if ours is None:
        return None
    try:
        found = metadata.get_run(ours)
    except UnknownNameError:
        return None
    return f"it is the copy of run {ours}" if found.id == ours else None


@dataclass
class _Taking:
    """Takes runs over one by one, and remembers which is which: a parent begins before its children."""

    stores: Stores
    server: Server
    files: bool
    ours: dict[str, str] = field(default_factory=dict)

    def one(self, asked: Asked, listed: Mapping[str, Any]) -> ImportedRun:
        key, experiment = listed["run"], listed["experiment"]
        started_us = (listed["start_ms"] or 0) * 1_000
        known = self.stores.metadata.find_foreign_run(key, started_us)
        if known is not None:
            self.ours[key] = known.id
            return ImportedRun(known.id, key, experiment, new=False)
        with draft_folder(self.stores.work, "mlflow") as draft:
            folder = draft / "files"
            folder.mkdir()
            told = asked.ask({"do": "read", "run": key, "folder": str(folder) if self.files else None})
            metrics, renumbered = metrics_of(told["metrics"])
            found = ForeignRun(
                key=key,
                pipeline=pipeline_of(experiment),
                state=_STATES[told["status"]],
                started_us=started_us,
                ended_us=told["end_ms"] * 1_000 if told["end_ms"] else None,
                params={name: param_of_text(text) for name, text in told["params"].items()},
                metrics=metrics,
                code={name: told["tags"][tag] for name, tag in _SOURCE.items() if tag in told["tags"]},
                tags={"mlflow": {"run": key, "server": self.server.shown} | _about(told, listed, renumbered)},
                parent_id=self.ours.get(told["tags"].get(_PARENT, "")),
                files=[_kept(self.stores, folder)] if told["files"] else (),
            )
            run, new = self.stores.metadata.import_run(found)
        self.ours[key] = run.id
        return ImportedRun(run.id, key, experiment, new, _notes(told, renumbered, self.files) if new else ())


def _about(told: Mapping[str, Any], listed: Mapping[str, Any], renumbered: Sequence[str]) -> dict[str, Any]:
    return {
        "name": told["name"],
        "experiment": listed["experiment"],
        "tags": told["tags"],
        "numbered_anew": list(renumbered),
    }


def _kept(stores: Stores, folder: Path) -> ForeignFile:
    kept = stores.artifacts.put_tree(folder, name=FILES)
    return ForeignFile(FILES, kept.uri, kept.digest, kept.size, kept.media_type)


def _notes(told: Mapping[str, Any], renumbered: Sequence[str], files: bool) -> tuple[str, ...]:
    notes = []
    if renumbered:
        notes.append(
            f"several values at one step, numbered anew in the order of time: {', '.join(renumbered)}"
        )
    if told["models"] and not files:
        notes.append(f"the files of {told['models']} logged models stay in MLflow; --artifacts copies them")
    return tuple(notes)
