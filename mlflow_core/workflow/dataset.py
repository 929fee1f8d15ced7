"""Build a training set and keep it: plan, compute, check, store by content.

What a dataset means is decided in ``plan.dataset`` and computed in ``engine.dataset``; here it becomes an
artifact with a digest, so that the same recipe over the same sources is the same artifact.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from mlflow_core.artifacts import Artifact, ArtifactStore
from mlflow_core.engine.dataset.checks import CheckResult
from mlflow_core.engine.dataset.compute import compute_dataset
from mlflow_core.engine.dataset.manifest import MANIFEST
from mlflow_core.engine.files.drafts import draft_folder
from mlflow_core.engine.route import Route
from mlflow_core.errors import SourceError
from mlflow_core.plan.dataset import PARTS, DatasetPlan, plan_dataset
from mlflow_core.plan.erasures import NOTHING_ERASED, Erasures
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.sources import read_schema
from mlflow_core.spec import ClockName, Dataset
from mlflow_core.telemetry.progress import Progress, SilentProgress
from mlflow_core.train.data.training_set import TrainingData

__all__ = ["StoredDataset", "build_dataset", "fingerprints_of", "open_dataset", "plan_of"]


@dataclass(frozen=True)
class StoredDataset:
    """A training set in the artifact store.

    Attributes:
        artifact: The folder of its shards and manifest.
        manifest: What ``dataset.json`` says.
        artifacts: The store.
        fetched: Where shards of a store that is not a folder of this machine are copied to when they are first asked
            for; by default a folder for temporary files, which is gone with this object.
        sources: Fingerprint of each source as it was read; empty where it was not read now.
    """

    artifact: Artifact
    manifest: Mapping[str, Any]
    artifacts: ArtifactStore
    fetched: Path | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def data(self) -> TrainingData:
        """Its shards as trainers read them.

        Raises:
            ArtifactError: Some are missing or damaged.
        """
        manifest, path_of = self.manifest, self._here()
        shards = {part: tuple(path_of(name) for name in manifest["shards"].get(part, ())) for part in PARTS}
        return TrainingData(
            shards=shards,
            label=manifest["label"]["column"],
            features=tuple(manifest["features"]),
            request=tuple(manifest["request"]),
            time_column=manifest["time_column"],
            named_by_content=True,
        )

    def _here(self) -> Callable[[str], Path]:
        """Where each of its files is on this machine: in the store itself, or in a copy of all of them."""
        digest = self.artifact.digest
        if "://" not in self.artifacts.location:
            files = {file.path: file.digest for file in self.artifacts.files_of(digest)}
            return lambda name: self.artifacts.path(files[name])
        below = self.fetched
        if below is None:
            below = Path(tempfile.mkdtemp(prefix="mlcore-dataset-"))
            weakref.finalize(self, shutil.rmtree, below, ignore_errors=True)
        folder = below / digest.rpartition(":")[2]
        if not folder.exists():
            self.artifacts.fetch_tree(digest, folder)
        return folder.joinpath

    @property
    def warnings(self) -> tuple[str, ...]:
        """The checks that only warn and do not hold, one sentence each."""
        return tuple(
            f'{one["view"]}: "{one["column"]}" has {one["found"]}, expected {one["check"]}'
            for one in self.manifest["checks"]
            if not one["holds"]
        )


def plan_of(
    dataset: Dataset,
    base: str,
    *,
    clock: ClockName | None = None,
    carry: Iterable[str] = (),
    erasures: Erasures = NOTHING_ERASED,
) -> DatasetPlan:
    """Plan a training set against the sources as they are now.

    Args:
        dataset: The declaration.
        base: Folder that relative source paths start at.
        clock: Which events the features see; by default the dataset's own.
        carry: Further columns that every row keeps.
        erasures: What was erased in the project; nothing of it is in the training set.

    Raises:
        PlanError: It does not fit its sources.
        SourceError: A source cannot be read.
    """
    plan = plan_dataset(dataset, lambda source: read_schema(source, base), clock=clock, carry=carry)
    return plan.without(erasures)


def fingerprints_of(plan: DatasetPlan) -> dict[str, str]:
    """Fingerprint the definitions that the features of a training set are computed by, by kind and name."""
    service = plan.dataset.features
    named = {f"view {read.view.name}": fingerprint(read.view) for read in plan.retrieval.reads}
    named |= {
        f"on_demand {one.on_demand.name}": fingerprint(one.on_demand) for one in plan.retrieval.on_demand
    }
    return {**named, f"service {service.name}": fingerprint(service)}


def build_dataset(
    plan: DatasetPlan,
    *,
    base: str,
    artifacts: ArtifactStore,
    workdir: Path,
    name: str = "dataset",
    route: Route | None = None,
    progress: Progress | None = None,
) -> StoredDataset:
    """Compute a training set and store it.

    Args:
        plan: What to build.
        base: Folder that relative source paths start at.
        artifacts: Where it is kept.
        workdir: Folder for drafts, on the same disk as the store if links are to save the copy.
        name: What the artifact is called.
        route: Where features are computed; by default in this process.
        progress: Who is told.

    Raises:
        SourceError: A check of severity ``error`` does not hold in the training part; nothing is stored.
        TrainError: No row, or not one positive, is left for training.
    """
    progress = progress or SilentProgress()
    with draft_folder(workdir, "dataset") as draft:
        computed = compute_dataset(
            plan,
            base=base,
            out=draft / "dataset",
            fingerprints=fingerprints_of(plan),
            route=route,
            progress=progress,
        )
        _refuse(plan, [check for check in computed.checks if check.severity == "error" and not check.holds])
        with progress.stage("storing the dataset"):
            artifact = artifacts.put_tree(computed.folder, name=name, link=True)
    return replace(open_dataset(artifact, artifacts), sources=computed.sources)


def open_dataset(
    artifact: Artifact, artifacts: ArtifactStore, *, fetched: Path | None = None
) -> StoredDataset:
    """Open a stored training set; it is copied only where the store is not a folder of this machine, and when it is read.

    Args:
        artifact: Its folder.
        artifacts: The store.
        fetched: As of ``StoredDataset``.

    Raises:
        ArtifactError: It is missing or damaged.
    """
    files = {file.path: file.digest for file in artifacts.files_of(artifact.digest)}
    manifest = orjson.loads(artifacts.read_bytes(files[MANIFEST]))
    return StoredDataset(artifact, manifest, artifacts, fetched)


def _refuse(plan: DatasetPlan, failed: list[CheckResult]) -> None:
    if not failed:
        return
    told = "; ".join(
        f'view "{one.view}": "{one.column}" has {one.found}, expected {one.check}' for one in failed
    )
    raise SourceError(
        f"the training part does not pass the checks of its views: {told}",
        object=f"Dataset of {plan.dataset.features.title}",
        place=plan.dataset.place,
        hint='Mend the data, or give the check severity="warn".',
    )
