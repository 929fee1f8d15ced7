"""A run as it is written down: its steps with how each attempt ended, and how the run itself did.

A run ends as ``failed`` if the user can mend it (any of our own errors, a full disk), as ``cancelled`` after Ctrl-C or
``mlcore runs cancel``, and as ``crashed`` otherwise. Whatever happens in this process, it ends; of a killed process its
lease tells. A driver that has lost its lease writes nothing more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow_core.artifacts import Artifact, ArtifactStore
from mlflow_core.errors import (
    ClusterLost,
    MetadataError,
    MlcoreError,
    RunCancelled,
    StepCancelled,
    StepCrashed,
    StepTimeout,
    disk_is_full,
)
from mlflow_core.metadata import MetadataStore
from mlflow_core.metadata.records import RunState
from mlflow_core.telemetry.logs import blotted, get_logger
from mlflow_core.telemetry.progress import Progress
from mlflow_core.workflow.footprint import Footprint
from mlflow_core.workflow.lease import Hold, lease_held
from mlflow_core.workflow.run_log import LOG, logging_to, step_named
from mlflow_core.workflow.told import Told

__all__ = ["Attempt", "Journal", "sentence", "state_after"]

_log = get_logger(__name__)


class Attempt:
    """An attempt at a step, and what is known of it.

    Attributes:
        id: Its number in the metadata store.
        name: The step's name.
        told: Whom the step tells what it has to say.
        output_digest: Its output in the artifact store, once it has one.
        found: Whether the output was found, not made.
        seconds: How long it took; 0 until it has ended.
    """

    def __init__(self, step_id: int, name: str, told: Told) -> None:
        self.id = step_id
        self.name = name
        self.told = told
        self.output_digest: str | None = None
        self.found = False
        self.seconds = 0.0


class Journal:
    """Writes one run down.

    Args:
        metadata: Where it is written.
        artifacts: Where files go.
        run_id: The run.
        progress: Who is told of the steps.
        log: The file of the run's log; None keeps none.
        redact: Texts that must never appear: neither in the log nor in what is written down of errors.
    """

    def __init__(
        self,
        metadata: MetadataStore,
        artifacts: ArtifactStore,
        run_id: str,
        progress: Progress,
        *,
        log: Path | None = None,
        redact: tuple[str, ...] = (),
    ) -> None:
        self.metadata = metadata
        self.artifacts = artifacts
        self.run_id = run_id
        self.progress = progress
        self.steps: dict[str, Attempt] = {}
        self._log, self._redact = log, redact
        self._hold: Hold | None = None

    @contextmanager
    def attempt(
        self,
        name: str,
        *,
        cache_key: str | None = None,
        cache_parts: Mapping[str, Any] | None = None,
        aside: bool = False,
    ) -> Iterator[Attempt]:
        """Record an attempt at a step; it ends as its block does.

        Args:
            name: The step's name.
            cache_key: What its output is found by.
            cache_parts: What the key is made of.
            aside: Whether the work is done in another process, which tells what it uses; else this one is measured.
        """
        begun = self.metadata.start_step(self.run_id, name, cache_key=cache_key, cache_parts=cache_parts)
        told = Told(self.metadata, self.artifacts, self.run_id, begun.id)
        attempt = Attempt(begun.id, name, told)
        self.steps[name] = attempt
        start, footprint = time.monotonic(), None if aside else Footprint()
        with step_named(name):
            try:
                yield attempt
                attempt.told.flush()
            except BaseException as error:
                if footprint is not None:
                    footprint.complete(attempt.told.usage)
                self._ended_badly(attempt, error)
                raise
            attempt.seconds, used = time.monotonic() - start, attempt.told.usage
            if footprint is not None:
                footprint.complete(used)
            self.metadata.finish_step(
                attempt.id,
                output_digest=attempt.output_digest,
                cache_hit=attempt.found,
                # That a process which did nothing for it was large says nothing of a step.
                memory_bytes=None if attempt.found else used.memory_bytes,
                worker=used.worker,
                cpu_us=used.cpu_us,
            )
            how = "found, nothing to do" if attempt.found else f"done in {attempt.seconds:.1f} s"
            _log.info("step %s: %s", name, how)

    @contextmanager
    def whole(self, **lease: float) -> Iterator[Hold]:
        """Hold the run's lease, keep its log, and end the run as its block ends.

        Args:
            lease: As for ``lease_held``.
        """
        with lease_held(self.metadata, self.run_id, **lease) as hold:
            self._hold = hold
            try:
                with self._logged():
                    yield hold
            except BaseException as error:
                if not hold.is_lost:
                    self._keep_log()
                    self.metadata.finish_run(
                        self.run_id, state_after(error), error=self._sentence(error), driver=hold.owner
                    )
                raise
            self._keep_log()
            self.metadata.finish_run(self.run_id, RunState.SUCCEEDED, driver=hold.owner)

    def note(self, name: str, artifact: Artifact) -> None:
        """Note that the run left something that is of no single step."""
        Told(self.metadata, self.artifacts, self.run_id).note(name, artifact)

    def _ended_badly(self, attempt: Attempt, error: BaseException) -> None:
        if self._hold is not None and self._hold.is_lost:
            attempt.told.drop()
            return  # another driver has ended the step, and may have begun it again
        _flush(attempt)
        state, usage, reason = state_after(error), attempt.told.usage, _reason(error)
        _log.info("step %s %s: %s", attempt.name, state.value, self._sentence(error))
        self.metadata.finish_step(
            attempt.id,
            state,
            error=self._sentence(error),
            exit_reason=None if reason is None else blotted(reason, self._redact),
            memory_bytes=usage.memory_bytes,
            worker=usage.worker,
            cpu_us=usage.cpu_us,
        )

    def _sentence(self, error: BaseException) -> str:
        return blotted(sentence(error), self._redact)

    @contextmanager
    def _logged(self) -> Iterator[None]:
        if self._log is None:
            yield
            return
        with logging_to(self._log, redact=self._redact):
            _log.info("run %s begins", self.run_id)
            try:
                yield
            except BaseException as error:
                _log.info("run %s %s: %s", self.run_id, state_after(error).value, self._sentence(error))
                raise
            _log.info("run %s succeeded", self.run_id)

    def _keep_log(self) -> None:
        """Keep the log as it is now. That a full disk keeps it from being kept must not hide why the run failed."""
        if self._log is not None and self._log.is_file():
            try:
                Told(self.metadata, self.artifacts, self.run_id).keep(LOG, self._log)
            except (MlcoreError, OSError) as error:
                _log.warning("the log of run %s was not kept: %s", self.run_id, error)


def _flush(attempt: Attempt) -> None:
    """Write what a step told before it failed. That this cannot be written must not hide why it failed."""
    try:
        attempt.told.flush()
    except MetadataError as error:
        attempt.told.drop()
        _log.warning("the last figures of step %s were not written: %s", attempt.name, error)


def state_after(error: BaseException) -> RunState:
    """Say how a run or a step ends that an error ended."""
    if isinstance(error, RunCancelled | StepCancelled | KeyboardInterrupt):
        return RunState.CANCELLED
    if isinstance(error, StepCrashed | StepTimeout | ClusterLost):
        return RunState.CRASHED
    if isinstance(error, MlcoreError) or disk_is_full(error):
        return RunState.FAILED
    return RunState.CRASHED


def _reason(error: BaseException) -> str | None:
    if isinstance(error, StepTimeout):
        return "timeout"
    return error.what if isinstance(error, StepCrashed) else None


def sentence(error: BaseException) -> str:
    """Say in one line what went wrong, in a text that every database takes: names of files need not be UTF-8."""
    kept = str(error).replace("\0", "\\0").encode(errors="backslashreplace").decode()
    text = " ".join(kept.split())
    return text if isinstance(error, MlcoreError) else f"{type(error).__name__}: {text}".rstrip(": ")
