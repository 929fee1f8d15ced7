"""Two runs side by side: params, metrics, data, features, code and environment, as each was recorded.

Nothing is computed again here. What differs inside the rows of two training sets is told by ``workflow.data_difference``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.engine.dataset.manifest import MANIFEST
from mlflow_core.metadata import DatasetRecord, MetadataStore, Run
from mlflow_core.workflow.environment import ENVIRONMENT

__all__ = ["Compared", "Comparison", "compare_runs", "compared", "data_facts"]

_FEATURES = ("service ", "view ", "on_demand ", "source ", "entity ")


@dataclass(frozen=True)
class Compared:
    """One fact of two things.

    Attributes:
        part: What it belongs to, e.g. ``params``.
        name: What it is.
        a: What the first says; None where it has none.
        b: What the second says.
        only: The one that has it, ``a`` or ``b``; None where both have.
    """

    part: str
    name: str
    a: Any
    b: Any
    only: Literal["a", "b"] | None = None

    @property
    def same(self) -> bool:
        """Whether both have it, and say the same."""
        return self.only is None and bool(self.a == self.b)


@dataclass(frozen=True)
class Comparison:
    """Two runs, fact by fact.

    Attributes:
        a: The first run.
        b: The second.
        rows: Every fact of either, part by part; within a part by name.
        notes: What could not be told, and why.
    """

    a: Run
    b: Run
    rows: tuple[Compared, ...]
    notes: tuple[str, ...]

    @property
    def different(self) -> tuple[Compared, ...]:
        """The facts in which they differ."""
        return tuple(row for row in self.rows if not row.same)


def compared(part: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Compared]:
    """Yield every fact of two mappings, by name.

    Args:
        part: What they belong to.
        a: The first's facts.
        b: The second's.

    Example:
        >>> [(one.name, one.same, one.only) for one in compared("params", {"rounds": 5}, {"rounds": 5, "seed": 1})]
        [('rounds', True, None), ('seed', False, 'b')]
    """
    for name in sorted({*a, *b}):
        only: Literal["a", "b"] | None = None if name in a and name in b else "a" if name in a else "b"
        yield Compared(part, name, a.get(name), b.get(name), only)


def compare_runs(metadata: MetadataStore, artifacts: ArtifactStore, a: str, b: str) -> Comparison:
    """Lay two runs side by side.

    Args:
        metadata: Where they are recorded.
        artifacts: Where the manifests of their training sets are kept.
        a: A run's id, the beginning of it, or latest.
        b: Another.

    Raises:
        UnknownNameError: There is no such run.
    """
    notes: list[str] = []
    first, second = (_Facts(metadata, artifacts, metadata.get_run(one), notes) for one in (a, b))
    sides = zip(first.parts(), second.parts(), strict=True)
    rows = tuple(row for (part, of_a), (_, of_b) in sides for row in compared(part, of_a, of_b))
    return Comparison(first.run, second.run, rows, tuple(dict.fromkeys(notes)))


def data_facts(record: DatasetRecord | None) -> dict[str, Any]:
    """Return what is recorded of a training set without looking into its rows, as names and values."""
    if record is None:
        return {}
    report = record.report
    files = {
        f"file {source}: {name}": version
        for source, listed in dict(report.get("files", {})).items()
        for name, version in listed.items()
    }
    return {
        "content": record.content_hash,
        "clock": record.clock,
        **{f"rows {part}": count for part, count in record.rows.items()},
        **{f"left out, {why}": count for why, count in dict(report.get("left_out", {})).items()},
        **{f"split {name}": value for name, value in record.split.items()},
        **{f"column {name}": kind for name, kind in record.schema.items()},
        **{f"source {name}": version for name, version in record.source_snapshot.items()},
        **files,
    }


@dataclass(frozen=True)
class _Facts:
    """One side of the comparison."""

    metadata: MetadataStore
    artifacts: ArtifactStore
    run: Run
    notes: list[str]

    def parts(self) -> list[tuple[str, dict[str, Any]]]:
        run = self.run
        dataset = None if run.dataset_id is None else self.metadata.get_dataset(run.dataset_id)
        metrics = self.metadata.latest_metrics([run.id])[run.id]
        declared = dict(run.code.get("specs", {}))
        views = {name: digest for name, digest in declared.items() if name.startswith(_FEATURES)}
        about = {"pipeline": run.pipeline, "state": run.state.value, "seed": run.seed}
        own = {f"declared {name}": digest for name, digest in declared.items() if name not in views}
        code = {name: value for name, value in run.code.items() if name != "specs"}
        return [
            ("run", {**about, "declaration": run.pipeline_fingerprint, **own}),
            ("params", self.metadata.get_params(run.id)),
            ("metrics", {name: metric.value for name, metric in metrics.items()}),
            ("data", data_facts(dataset)),
            ("features", {**views, **self._keyed("features"), **self._fingerprints(dataset)}),
            ("code", {**code, **self._keyed("code")}),
            ("environment", self._environment()),
        ]

    def _keyed(self, part: str) -> dict[str, Any]:
        """Join one part of what the cache keys of all steps were made of."""
        told = [step.cache_parts.get(part) for step in self.metadata.list_steps(self.run.id)]
        return {name: value for one in told if isinstance(one, Mapping) for name, value in one.items()}

    def _environment(self) -> dict[str, Any]:
        """Every installed package where the run kept the list, and the machine."""
        kept = [one for one in self.metadata.list_artifacts(self.run.id) if one.name == ENVIRONMENT]
        if not kept or not self.artifacts.exists(kept[0].digest):
            return dict(self.run.environment)
        packages: dict[str, Any] = orjson.loads(self.artifacts.read_bytes(kept[0].digest))
        return {**self.run.environment, **packages}

    def _fingerprints(self, dataset: DatasetRecord | None) -> dict[str, Any]:
        if dataset is None or dataset.artifact_digest is None:
            return {}
        if dataset.removed_us is not None or not self.artifacts.exists(dataset.artifact_digest):
            self.notes.append(f"dataset {dataset.id} is not at hand: its features' fingerprints are not told")
            return {}
        files = {file.path: file.digest for file in self.artifacts.files_of(dataset.artifact_digest)}
        manifest = orjson.loads(self.artifacts.read_bytes(files[MANIFEST]))
        return dict(manifest["fingerprints"])
