"""Copying runs that have ended to MLflow: one as its driver lets it go, or all that are missing when somebody asks.

A copy never decides anything. If it cannot be made, the run is as good as before, a warning says how to make it later, and
whoever asks again adds only what is missing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.config import Settings
from mlflow_core.engine.files.drafts import draft_folder
from mlflow_core.errors import MlcoreError, WorkflowError
from mlflow_core.metadata import IMPORTED, MetadataStore, Run
from mlflow_core.telemetry.logs import get_logger
from mlflow_core.telemetry.progress import Progress, SilentProgress
from mlflow_core.workflow.mirror.parcel import pack
from mlflow_core.workflow.mirror.process import Asked, asking, server_of

__all__ = ["Copied", "Stores", "copied_when_ended", "ended_runs_of", "mirror_runs"]

_COPIED: Final = ("train", "tune")
_AT_ONCE: Final = 1_000

_log = get_logger(__name__)


@dataclass(frozen=True)
class Stores:
    """What a mirror reads, or an import writes.

    Attributes:
        settings: The project's.
        metadata: Runs and models.
        artifacts: Their files.
    """

    settings: Settings
    metadata: MetadataStore
    artifacts: ArtifactStore

    @property
    def work(self) -> Path:
        """The folder for drafts and locks."""
        return self.settings.root / ".mlcore" / "work"


@dataclass(frozen=True)
class Copied:
    """What became of one run's copy.

    Attributes:
        run_id: Our run.
        mlflow_run: MLflow's id of the copy; None where there is none.
        made: Whether anything was written: not where the copy was whole already.
        version: The version that its model has in MLflow, if one was registered.
        warnings: What MLflow has otherwise than it is here.
        error: Why it was not copied; None if it was.
    """

    run_id: str
    mlflow_run: str | None = None
    made: bool = False
    version: str | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None


def ended_runs_of(metadata: MetadataStore) -> list[Run]:
    """The runs that are copied without being named: those of pipelines that have ended, the oldest first."""
    found: list[Run] = []
    seen = 0
    while some := metadata.list_runs(limit=_AT_ONCE, offset=seen):
        found += [run for run in some if run.state.ended and run.kind in _COPIED]
        seen += len(some)
    return found[::-1]


def mirror_runs(
    stores: Stores, runs: Iterable[Run], *, asked: Asked | None = None, progress: Progress | None = None
) -> tuple[Copied, ...]:
    """Copy runs to the tracking server of the settings; what is there already is left alone.

    Args:
        stores: The project.
        runs: They have ended.
        asked: MLflow's process, if one is at hand; None starts one.
        progress: Who is told.

    Returns:
        What became of each. One that cannot be copied does not keep the others from it.

    Raises:
        WorkflowError: A run has not ended or came from MLflow, no server is set, MLflow is not installed, or the server cannot
            be reached.
    """
    chosen = list(runs)
    for run in chosen:
        _check(run)
    if not chosen:
        return ()
    done = []
    shown = progress or SilentProgress()
    with (
        nullcontext(asked) if asked is not None else asking(server_of(stores.settings)) as mlflow,
        shown.stage("copying to MLflow", len(chosen), "runs") as stage,
    ):
        mlflow.ask({"do": "look"})  # a server that is not there is one error, not one a run
        for run in chosen:
            done.append(_one(stores, run, mlflow))
            stage.advance()
            if mlflow.is_gone:  # it was ended because it gave no answer: neither will it to the next question
                why = "was not tried, since MLflow had given no answer"
                done += [Copied(other.id, error=why) for other in chosen[len(done) :]]
                break
    return tuple(done)


@contextmanager
def copied_when_ended(stores: Stores, run_id: str, *, progress: Progress | None = None) -> Iterator[None]:
    """Copy a run when the ``with`` block that drives it is left, if the settings name a server.

    Nothing that goes wrong with it goes further than a warning. After Ctrl-C nothing is copied: whoever typed it waits.

    Args:
        stores: The project.
        run_id: The run.
        progress: Who is told: a server that hangs is waited for.
    """
    try:
        yield
    except Exception:
        _copy_ended(stores, run_id, progress)
        raise
    _copy_ended(stores, run_id, progress)


def _copy_ended(stores: Stores, run_id: str, progress: Progress | None) -> None:
    if stores.settings.mlflow.tracking_uri is None:
        return
    try:
        run = stores.metadata.get_run(run_id)
        if not run.state.ended or run.kind not in _COPIED:
            return
        found = mirror_runs(stores, [run], progress=progress)[0]
    except (
        Exception
    ) as error:  # the boundary between a run and its copy: no fault of this one may reach that one
        _log.debug("the copy of run %s failed", run_id, exc_info=True)
        text = str(error) if isinstance(error, MlcoreError) else f"{type(error).__name__}: {error}"
        found = Copied(run_id, error=text)
    if found.error is not None:
        _log.warning(
            "run %s was not copied to MLflow: %s To do it later: mlcore runs mirror %s",
            run_id,
            found.error if found.error.endswith(".") else f"{found.error}.",
            run_id,
        )
    for warning in found.warnings:
        _log.warning("run %s: %s", run_id, warning)


def _check(run: Run) -> None:
    if not run.state.ended:
        raise WorkflowError(
            f"is {run.state.value}", object=f"Run {run.id}", expected="one that has ended, to copy it"
        )
    if run.kind == IMPORTED:
        raise WorkflowError("came from MLflow, and is not copied back", object=f"Run {run.id}")


def _one(stores: Stores, run: Run, asked: Asked) -> Copied:
    settings, metadata = stores.settings, stores.metadata
    project = f"{settings.project.namespace}/{settings.project.name}"
    try:
        with _alone(stores.work, run.id), draft_folder(stores.work, "mlflow") as draft:
            folder = draft / "run"
            folder.mkdir()
            parcel = pack(
                metadata,
                stores.artifacts,
                run,
                folder,
                project=project,
                experiment=settings.mlflow.experiment or settings.project.name,
                models=settings.mlflow.models,
            )
            told = asked.ask(parcel.request)
    except (MlcoreError, OSError) as error:
        return Copied(run.id, error=str(error))
    copied = Copied(
        run.id, told["run"], told["made"], told["version"], parcel.warnings if told["made"] else ()
    )
    return copied if told["note"] is None else replace(copied, warnings=(*copied.warnings, told["note"]))


@contextmanager
def _alone(folder: Path, run_id: str) -> Iterator[None]:
    """Wait until no other process of this machine copies that run: both would find no copy, and make one each."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".mirror-{run_id}.lock"
    while True:
        with path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(lock.fileno()).st_ino:
                    try:
                        yield
                    finally:
                        path.unlink(missing_ok=True)
                    return
