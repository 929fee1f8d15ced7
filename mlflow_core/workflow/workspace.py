"""What a workflow acts on, opened once: a project with its settings, its metadata and its artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.config import Settings
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.errors import UnknownNameError, nearest
from mlflow_core.feast.erasures import erasures_of_records
from mlflow_core.metadata import MetadataStore
from mlflow_core.plan.erasures import Erasures
from mlflow_core.plan.project import Project
from mlflow_core.spec import Pipeline, TrainingPipeline

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Workspace"]


@dataclass(frozen=True)
class Workspace:
    """A project and where its work is kept.

    Attributes:
        project: The declarations.
        settings: The project's settings.
        metadata: Runs, datasets and models.
        artifacts: Their content.
    """

    project: Project
    settings: Settings
    metadata: MetadataStore
    artifacts: ArtifactStore

    @property
    def base(self) -> str:
        """The folder that relative source paths start at."""
        return str(self.project.repo)

    @property
    def workdir(self) -> Path:
        """The folder for drafts; nothing in it is needed after a command has ended."""
        return self.settings.root / ".mlcore" / "work"

    @property
    def trainings(self) -> Path:
        """The folder of trainings' scratch until they have ended; their checkpoints are in the artifact store."""
        return self.settings.root / ".mlcore" / "trainings"

    @property
    def remembered_files(self) -> Path:
        """What is remembered of sources' files on this machine, for those that are written again unnoticed."""
        return self.settings.root / ".mlcore" / "files.json"

    @property
    def layouts(self) -> Cache:
        """The cache of sources' layouts, for retrievals on a cluster."""
        return Cache(Path(self.settings.cache.location), self.settings.cache.limit)

    @property
    def erasures(self) -> Erasures:
        """What was erased in the project, as of now."""
        return erasures_of_records(self.metadata.list_erasures())

    @property
    def reports(self) -> Path:
        """The folder where people find reports; each is a copy of a run's artifact."""
        return self.settings.root / ".mlcore" / "reports"

    def pipeline(self, name: str) -> TrainingPipeline:
        """Return a training pipeline.

        Raises:
            UnknownNameError: There is none of that name.
        """
        found = self.project.pipelines.get(name)
        if not isinstance(found, TrainingPipeline):
            raise UnknownNameError(
                f'there is no training pipeline "{name}"', hint=nearest(name, self.project.pipelines)
            )
        return found

    def any_pipeline(self, name: str) -> TrainingPipeline | Pipeline:
        """Return a pipeline, of a training or of steps alone.

        Raises:
            UnknownNameError: There is none of that name.
        """
        known: dict[str, TrainingPipeline | Pipeline] = {
            **self.project.step_pipelines,
            **self.project.pipelines,
        }
        if name not in known:
            raise UnknownNameError(f'there is no pipeline "{name}"', hint=nearest(name, known))
        return known[name]

    @contextmanager
    def cluster(self, *, performance_report: Path | None = None) -> Iterator[Client]:
        """Open the cluster of the settings for the time of a ``with`` block.

        Args:
            performance_report: A file for Dask's own report on the work; None for what the settings say.
        """
        from mlflow_core.engine.cluster.connect import open_cluster

        settings = self.settings.cluster
        if performance_report is not None:
            settings = settings.model_copy(update={"performance_report": str(performance_report)})
        try:
            with open_cluster(settings) as client:
                yield client
        finally:
            self.layouts.sweep()  # workers that were ended at work have left drafts
