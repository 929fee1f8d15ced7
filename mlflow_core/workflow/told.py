"""What a step tells of itself while it runs: settings, figures, files, warnings. Written, and remembered.

All is written at once but the figures of rounds and epochs, which may come thousands to a second: they are written in
batches, each figure within a second, and all of them before its step ends. Of a killed process the last second's are lost.

What it remembers is kept beside the step's output, so that a run which finds the output instead of computing it has
the same figures and files, and can be listed and compared like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from mlflow_core.artifacts import Artifact, ArtifactStore
from mlflow_core.metadata import MetadataStore, Metric
from mlflow_core.metadata.canonical import canonical, number

__all__ = ["RECORD_TYPE", "Told", "Usage", "record_name"]

RECORD_TYPE: Final = "application/vnd.mlcore.step+json"
"""The media type of what a step told, among a run's files."""

_MEDIA_TYPES = {
    ".html": "text/html",
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".md": "text/markdown",
    ".png": "image/png",
}


def record_name(step: str) -> str:
    """What the record of a step is called among its run's files."""
    return f"steps/{step}.json"


@dataclass
class Usage:
    """What a step used: its worker, its peak of memory in bytes, its processor time in microseconds."""

    worker: str | None = None
    memory_bytes: int | None = None
    cpu_us: int | None = None


@dataclass
class _Memory:
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[tuple[str, int], Metric] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    dataset: int | None = None
    warnings: list[str] = field(default_factory=list)


class Told:
    """Training's ``Recorder``, and more: writes to the metadata store and remembers what it wrote.

    Args:
        metadata: Where it is written.
        artifacts: Where files go.
        run_id: The run.
        step_id: The step that tells.

    Attributes:
        usage: What the step used, as far as it tells; of one that works in this process the journal knows the rest.
    """

    def __init__(
        self, metadata: MetadataStore, artifacts: ArtifactStore, run_id: str, step_id: int | None = None
    ) -> None:
        self._metadata, self._artifacts = metadata, artifacts
        self._run_id, self._step_id = run_id, step_id
        self._prefix, self._told = "", _Memory()
        self._writer = metadata.metric_writer(run_id)
        self.usage = Usage()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know."""
        return tuple(self._told.warnings)

    def prefixed(self, prefix: str) -> Told:
        """The same with settings and figures whose names begin so, for a run that trains more than one model."""
        other = Told(self._metadata, self._artifacts, self._run_id, self._step_id)
        other._prefix, other._told, other._writer = prefix, self._told, self._writer
        return other

    def params(self, params: Mapping[str, Any]) -> None:
        """Record settings."""
        named = {f"{self._prefix}{name}": value for name, value in params.items()}
        self._metadata.log_params(self._run_id, named)
        self._told.params |= named

    def metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Record measured values; ``step`` is the round, None for final figures, which are written at once."""
        self._tell(Metric(name, value, step or 0) for name, value in metrics.items())
        if step is None:
            self.flush()

    def intervals(self, metrics: Iterable[Metric]) -> None:
        """Record values with their intervals."""
        self._tell(metrics)
        self.flush()

    def flush(self) -> None:
        """Write the figures that wait.

        Raises:
            MetadataError: They cannot be written.
        """
        self._writer.flush()

    def drop(self) -> None:
        """Forget the figures that wait: they are another driver's to tell."""
        self._writer.drop()

    def _tell(self, metrics: Iterable[Metric]) -> None:
        told = [
            Metric(f"{self._prefix}{one.name}", float(one.value), one.step, one.low, one.high)
            for one in metrics
        ]
        self._writer.write(told)
        self._told.metrics |= {(one.name, one.step): one for one in told}

    def artifact(self, name: str, path: Path) -> None:
        """Record a file or folder."""
        self.keep(f"{self._prefix}{name}", path)

    def keep(self, name: str, path: Path) -> Artifact:
        """Store a file or folder, and note that the run left it."""
        if path.is_dir():
            artifact = self._artifacts.put_tree(path, name=name)
        else:
            media_type = _MEDIA_TYPES.get(path.suffix, "application/octet-stream")
            artifact = self._artifacts.put_file(path, name=name, media_type=media_type)
        self.note(name, artifact)
        return artifact

    def note(self, name: str, artifact: Artifact) -> None:
        """Note that the run left something that is stored already."""
        self._log_artifact(name, artifact)
        self._told.artifacts[name] = artifact

    def dataset(self, record_id: int) -> None:
        """Note which dataset the run reads."""
        self._metadata.use_dataset(self._run_id, record_id)
        self._told.dataset = record_id

    def warn(self, warning: str) -> None:
        """Note what a person should know, once."""
        if warning not in self._told.warnings:
            self._told.warnings.append(warning)

    def record(self, kind: str, name: str) -> None:
        """Keep what was told as a file of the run, under the step's name.

        Args:
            kind: Of the output, as ``Output.kind``.
            name: The step's name.
        """
        self.flush()
        text = canonical(
            {
                "kind": kind,
                "params": self._told.params,
                "metrics": [asdict(one) for one in self._told.metrics.values()],
                "artifacts": {key: asdict(one) for key, one in self._told.artifacts.items()},
                "dataset": self._told.dataset,
                "warnings": self._told.warnings,
            }
        )
        kept = self._artifacts.put_bytes(text.encode(), name=record_name(name), media_type=RECORD_TYPE)
        self._log_artifact(record_name(name), kept)

    def kind_of(self, digest: str) -> str:
        """The kind of an output that was made before.

        Args:
            digest: Its record, as ``record`` kept it.

        Raises:
            ArtifactError: The record is gone.
        """
        kind: str = orjson.loads(self._artifacts.read_bytes(digest))["kind"]
        return kind

    def repeat(self, digest: str) -> None:
        """Tell again what was told when an output was made.

        Args:
            digest: The record, as ``record`` kept it.

        Raises:
            ArtifactError: The record, or a file that it names, is gone: the output has to be made again.
        """
        told = orjson.loads(self._artifacts.read_bytes(digest))
        artifacts = {name: Artifact(**one) for name, one in told["artifacts"].items()}
        for one in artifacts.values():
            # Young again, or a collection that has begun takes it away; raises unless all of it is there.
            self._artifacts.touch(one.digest)
        if told["params"]:
            self.params(told["params"])
        self.intervals(_metric(one) for one in told["metrics"])
        for name, one in artifacts.items():
            self.note(name, one)
        for warning in told["warnings"]:
            self.warn(warning)
        if told["dataset"] is not None:
            self.dataset(told["dataset"])

    def _log_artifact(self, name: str, artifact: Artifact) -> None:
        self._metadata.log_artifact(
            self._run_id,
            name,
            artifact.uri,
            artifact.digest,
            artifact.size,
            media_type=artifact.media_type,
            step_id=self._step_id,
        )


def _metric(told: Mapping[str, Any]) -> Metric:
    low, high = (None if told[end] is None else number(told[end]) for end in ("low", "high"))
    return Metric(told["name"], number(told["value"]), told["step"], low, high)
