"""A run as it is written down: its steps with how each one ended, and what training reports on the way.

A run ends as ``failed`` if the user can mend it (any of our own errors, a full disk), as ``cancelled`` after Ctrl-C, and as
``crashed`` otherwise. Whatever happens in this process, it ends; of a killed process its lease tells.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mlflow_core.artifacts import Artifact, ArtifactStore
from mlflow_core.errors import MlcoreError, disk_is_full
from mlflow_core.metadata import MetadataStore
from mlflow_core.metadata.records import Metric, RunState
from mlflow_core.telemetry.progress import Progress
from mlflow_core.workflow.lease import lease_held

__all__ = ["Journal", "RunRecorder", "StepNote", "environment"]

_PACKAGES = ("mlflow-core", "xgboost", "dask", "feast", "pyarrow", "numpy", "duckdb")
_OF_EXTRAS = ("torch", "safetensors", "scikit-learn", "skops", "optuna")
_MEDIA_TYPES = {".html": "text/html", ".json": "application/json", ".png": "image/png"}


class StepNote:
    """What a step says of itself before it ends.

    Attributes:
        id: The step's number.
        output_digest: Its output in the artifact store, if it has one.
        seconds: How long it took; 0 until it has ended.
    """

    def __init__(self, step_id: int) -> None:
        self.id = step_id
        self.output_digest: str | None = None
        self.seconds = 0.0


class Journal:
    """Writes one run down.

    Args:
        metadata: Where it is written.
        artifacts: Where files go.
        run_id: The run.
        progress: Who is told of the steps.
    """

    def __init__(
        self, metadata: MetadataStore, artifacts: ArtifactStore, run_id: str, progress: Progress
    ) -> None:
        self.metadata = metadata
        self.artifacts = artifacts
        self.run_id = run_id
        self.progress = progress
        self.steps: dict[str, StepNote] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[StepNote]:
        """Record a step; it ends as its block does."""
        note = StepNote(self.metadata.start_step(self.run_id, name).id)
        self.steps[name] = note
        began, cpu = time.monotonic(), time.process_time()
        try:
            yield note
        except BaseException as error:
            self.metadata.finish_step(note.id, state_after(error), error=sentence(error))
            raise
        note.seconds = time.monotonic() - began
        used = int((time.process_time() - cpu) * 1e6)
        self.metadata.finish_step(note.id, output_digest=note.output_digest, cpu_us=used)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Hold the run's lease, and end the run as its block ends."""
        try:
            with lease_held(self.metadata, self.run_id):
                yield
        except BaseException as error:
            self.metadata.finish_run(self.run_id, state_after(error), error=sentence(error))
            raise
        self.metadata.finish_run(self.run_id, RunState.SUCCEEDED)

    def keep(self, name: str, path: Path, step: StepNote | None = None) -> Artifact:
        """Store a file or folder and note that the run left it."""
        if path.is_dir():
            artifact = self.artifacts.put_tree(path, name=name)
        else:
            media_type = _MEDIA_TYPES.get(path.suffix, "application/octet-stream")
            artifact = self.artifacts.put_file(path, name=name, media_type=media_type)
        self.note(name, artifact, step)
        return artifact

    def note(self, name: str, artifact: Artifact, step: StepNote | None = None) -> None:
        """Note that the run left something that is stored already."""
        self.metadata.log_artifact(
            self.run_id,
            name,
            artifact.uri,
            artifact.digest,
            artifact.size,
            media_type=artifact.media_type,
            step_id=step.id if step else None,
        )


class RunRecorder:
    """Training's ``Recorder``, writing to the metadata store.

    Args:
        journal: The run.
        prefix: Put before every name, for a run that trains more than one model.
        step: The step that is training.
    """

    def __init__(self, journal: Journal, *, prefix: str = "", step: StepNote | None = None) -> None:
        self._journal = journal
        self._prefix = prefix
        self._step = step

    def params(self, params: Mapping[str, Any]) -> None:
        """Record settings."""
        named = {f"{self._prefix}{name}": value for name, value in params.items()}
        self._journal.metadata.log_params(self._journal.run_id, named)

    def metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Record measured values; ``step`` is the round, None for final figures."""
        named = {f"{self._prefix}{name}": value for name, value in metrics.items()}
        self._journal.metadata.log_metrics(self._journal.run_id, named, step=step)

    def intervals(self, metrics: Iterable[Metric]) -> None:
        """Record values with their intervals."""
        self._journal.metadata.log_metrics(self._journal.run_id, metrics)

    def artifact(self, name: str, path: Path) -> None:
        """Record a file or folder."""
        self._journal.keep(f"{self._prefix}{name}", path, self._step)


def environment() -> dict[str, str]:
    """Name what a run ran on: the machine, Python, and the packages that its figures depend on."""
    packages = {name: version(name) for name in _PACKAGES}
    for name in _OF_EXTRAS:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    return {"machine": platform.platform(), "python": platform.python_version(), **packages}


def state_after(error: BaseException) -> RunState:
    """Say how a run ends that an error ended."""
    if isinstance(error, MlcoreError) or disk_is_full(error):
        return RunState.FAILED
    return RunState.CANCELLED if isinstance(error, KeyboardInterrupt) else RunState.CRASHED


def sentence(error: BaseException) -> str:
    """Say in one line what went wrong."""
    text = " ".join(str(error).split())
    return text if isinstance(error, MlcoreError) else f"{type(error).__name__}: {text}".rstrip(": ")
