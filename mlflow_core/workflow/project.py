"""A project as one uses it in a notebook: ``ml.load("feature_repo")``, then ask it for datasets and features.

Nothing is written unless a dataset is built. What it returns are frames; what it is made of prints as a table.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlflow_core.config import SystemClock, load_settings
from mlflow_core.engine.dataset.estimate import explain_dataset
from mlflow_core.engine.estimate import RowsEstimate, estimate, rows_of
from mlflow_core.engine.explain import Explanation
from mlflow_core.engine.retrieve import retrieve
from mlflow_core.errors import PlanError, UnknownNameError, nearest
from mlflow_core.feast.erasures import erasures_in
from mlflow_core.plan.dataset import TIME_COLUMN
from mlflow_core.plan.load import load_project
from mlflow_core.plan.project import Project
from mlflow_core.plan.retrieval import plan_retrieval
from mlflow_core.spec import ClockName, FeatureService, FeatureView
from mlflow_core.telemetry.progress import ConsoleProgress, Progress
from mlflow_core.workflow.dataset import StoredDataset, plan_of
from mlflow_core.workflow.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Notebook", "load", "open_workspace"]


def load(path: str | Path = ".", *, env: str | None = None, progress: Progress | None = None) -> Notebook:
    r"""Load a project.

    Args:
        path: The project's folder, or any folder in it, e.g. its feature repository.
        env: Which ``env/NAME.toml`` lies on top of ``mlcore.toml``.
        progress: Who is told of long work; by default the console.

    Raises:
        PlanError: The declarations do not load, or there is no such folder.
        ConfigError: A setting is wrong.

    Example:
        >>> Path("shop").mkdir()
        >>> _ = Path("shop", "entities.py").write_text("import mlflow_core as ml")
        >>> _ = Path("mlcore.toml").write_text('[project]\nfeature_repo = "shop"\nname = "corner"')
        >>> load()
        Project corner: 0 views, 0 services, 0 pipelines
    """
    start = Path(path).resolve()
    if not start.is_dir():
        raise PlanError(f'"{path}" is no folder', expected="a project's folder, or one in it")
    root = next((one for one in (start, *start.parents) if (one / "mlcore.toml").is_file()), start)
    return Notebook(root, env=env, progress=progress)


def open_workspace(root: Path, *, env: str | None = None, project: Project | None = None) -> Workspace:
    """Open a project's metadata and artifacts beside its declarations.

    Args:
        root: The project's folder.
        env: Which overlay lies on top of ``mlcore.toml``.
        project: The declarations, if they are loaded already.

    Raises:
        PlanError: The declarations do not load.
        MetadataError: The metadata database cannot be used.
    """
    from mlflow_core.artifacts import ArtifactStore
    from mlflow_core.metadata import MetadataStore
    from mlflow_core.metadata.acting import acting_principal

    settings = load_settings(root, env)
    return Workspace(
        project=project
        or load_project(
            settings.root,
            name=settings.project.name,
            feature_repo=settings.project.feature_repo,
            pipelines=settings.project.pipelines,
        ),
        settings=settings,
        metadata=MetadataStore(
            settings.metadata_url(),
            settings.make_clock(),
            acting_principal(settings),
            project=settings.project.name,
            namespace=settings.project.namespace,
            leases=SystemClock(),
        ),
        artifacts=ArtifactStore(settings.artifact_location()),
    )


class Notebook:
    """A loaded project with what one asks of it interactively.

    Args:
        root: The project's folder.
        env: Which overlay lies on top of ``mlcore.toml``.
        progress: Who is told of long work.
    """

    def __init__(self, root: Path, *, env: str | None = None, progress: Progress | None = None) -> None:
        self._settings = settings = load_settings(root, env)
        self._env = env
        self._progress = progress or ConsoleProgress()
        self._worth_a_cluster = settings.cluster.worth_from
        self.project = load_project(
            settings.root,
            name=settings.project.name,
            feature_repo=settings.project.feature_repo,
            pipelines=settings.project.pipelines,
        )

    @cached_property
    def workspace(self) -> Workspace:
        """The project with its metadata and artifacts, opened on first use."""
        return open_workspace(self.project.root, env=self._env, project=self.project)

    def dataset(
        self,
        pipeline: str,
        *,
        clock: ClockName | None = None,
        parts: Sequence[str] = ("train", "validate", "test"),
        in_process: bool = False,
    ) -> pd.DataFrame:
        """Build a pipeline's training set and return it as one frame with a column ``part``.

        Where it is computed is what ``explain`` says: a large one on the cluster of the settings.

        Args:
            pipeline: The pipeline's name.
            clock: Which events the features see; by default the dataset's own.
            parts: Which parts to return.
            in_process: Start no cluster, however large it is.

        Raises:
            UnknownNameError: There is no such pipeline.
            SourceError: A source cannot be read, or a check does not hold.
        """
        stored = self._built(pipeline, clock, in_process=in_process)
        tables = []
        for part in parts:
            table = stored.data.read(part)
            tables.append(table.append_column("part", pa.array([part] * table.num_rows, pa.string())))
        frame: pd.DataFrame = pa.concat_tables(tables, promote_options="permissive").to_pandas()
        return frame

    def features(
        self,
        service: str,
        rows: pd.DataFrame | Mapping[str, Sequence[Any]],
        *,
        clock: ClockName | None = None,
    ) -> pd.DataFrame:
        """Join a service's features to entity rows as of their ``event_timestamp``.

        Args:
            service: The service's name.
            rows: Key columns, request fields and ``event_timestamp`` (a naive time is UTC); n rows.
            clock: Which events are seen; by default the service's own.

        Returns:
            The rows in their order, n of them, with the features beside them.

        Raises:
            UnknownNameError: There is no such service.
            SourceError: A column is missing.
        """
        erasures = erasures_in(self._settings, project=self.project.name)
        plan = plan_retrieval(self._service(service), clock=clock).without(erasures)
        found = retrieve(plan, _table(rows), base=str(self.project.repo), progress=self._progress)
        frame: pd.DataFrame = found.to_pandas()
        return frame

    def explain(
        self,
        name: str,
        rows: pd.DataFrame | Mapping[str, Sequence[Any]] | None = None,
        *,
        clock: ClockName | None = None,
    ) -> Explanation:
        """Say what building a pipeline's dataset, or retrieving a service, would read and compute, where and why.

        Args:
            name: A pipeline's or a service's name.
            rows: For a service the entity rows, as for ``features``; without them nothing is known of their times.
            clock: Which events are seen; by default the pipeline's or service's own.

        Returns:
            What prints as text and has ``to_json()``; only metadata of the sources are read for it.

        Raises:
            UnknownNameError: There is no pipeline or service of that name.
        """
        base = str(self.project.repo)
        if name in self.project.pipelines:
            spec = self.project.pipelines[name]
            plan = plan_of(spec.data, base, clock=clock, carry=spec.slices)
            return explain_dataset(plan, base=base, cluster=True, worth_a_cluster=self._worth_a_cluster)
        retrieval = plan_retrieval(self._service(name), clock=clock)
        given = RowsEstimate(0, 0, None, exact=False) if rows is None else rows_of(_table(rows), TIME_COLUMN)
        return Explanation(retrieval, estimate(retrieval, given, base=base, cluster=False))

    def _built(self, pipeline: str, clock: ClockName | None, *, in_process: bool) -> StoredDataset:
        from mlflow_core.workflow.pipeline_dataset import build_for_pipeline

        spec = self.workspace.pipeline(pipeline)
        large = not in_process and self.explain(pipeline, clock=clock).estimate.place == "on Dask"
        with self.workspace.cluster() if large else nullcontext() as client:
            return build_for_pipeline(
                self.workspace, spec, clock=clock, client=client, progress=self._progress
            )[0]

    def _service(self, name: str) -> FeatureService:
        found = self.project.services.get(name)
        if found is None:
            known = [*self.project.services, *self.project.pipelines]
            raise UnknownNameError(
                f'there is no feature service or pipeline "{name}"', hint=nearest(name, known)
            )
        return found

    def __repr__(self) -> str:
        project = self.project
        return (
            f"Project {project.name}: {len(project.views)} views, {len(project.services)} services, "
            f"{len(project.pipelines)} pipelines"
        )

    def _repr_html_(self) -> str:
        rows = "".join(_view_row(view) for view in self.project.views.values())
        services = "".join(
            f"<li><b>{html.escape(service.name)}</b>: {html.escape(service.description) or 'a feature service'}</li>"
            for service in self.project.services.values()
        )
        pipelines = "".join(
            f"<li><b>{html.escape(one.name)}</b>: {html.escape(one.description) or 'a training pipeline'}</li>"
            for one in self.project.pipelines.values()
        )
        head = "<tr><th>view</th><th>entity</th><th>source</th><th>features</th><th>available</th></tr>"
        return (
            f"<h3>{html.escape(self.project.name)}</h3><table>{head}{rows}</table>"
            f"<ul>{services}{pipelines}</ul>"
        )


def _table(rows: pd.DataFrame | Mapping[str, Sequence[Any]]) -> pa.Table:
    return pa.Table.from_pydict(dict(rows)) if isinstance(rows, Mapping) else pa.Table.from_pandas(rows)


def _view_row(view: FeatureView) -> str:
    every = view.availability
    cells = (
        view.name,
        ", ".join(view.keys) or "none",
        view.source.name,
        ", ".join(view.feature_names),
        f"every {every.every}, {every.delay} later" if every else "at once",
    )
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
