"""Feast's compute engine over our engine: ``materialize`` to the boundary, into whichever online store there is.

Named in ``feature_store.yaml`` as ``batch_engine: {type: mlflow_core.feast.compute_engine.DaskComputeEngine}``.
It translates Feast's tasks; what a boundary's values are is decided by the engine, and which of two stored
values wins by the online store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pyarrow as pa
from feast.entity import Entity as FeastEntity
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.feature_view import FeatureView as FeastView
from feast.infra.common.materialization_job import (
    MaterializationJob,
    MaterializationJobStatus,
    MaterializationTask,
)
from feast.infra.compute_engines.base import ComputeEngine
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel
from feast.utils import _convert_arrow_to_proto

from mlflow_core.algebra.types import TIME
from mlflow_core.config.clock import Clock, SystemClock
from mlflow_core.engine.materialise import Materialised, materialise
from mlflow_core.engine.route import Route
from mlflow_core.engine.views.snapshot import CREATED, EVENT_TIME
from mlflow_core.errors import MlcoreError, PlanError
from mlflow_core.feast.cluster import ClusterName, open_route
from mlflow_core.feast.online_store import PackedOnlineStore
from mlflow_core.plan.from_feast import view_of
from mlflow_core.spec import FeatureView
from mlflow_core.telemetry import get_logger

__all__ = ["DaskComputeEngine", "DaskComputeEngineConfig", "EngineJob", "boundary_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log = get_logger("feast")


class DaskComputeEngineConfig(FeastConfigBaseModel):
    """Settings of the compute engine in ``feature_store.yaml``."""

    type: Literal["mlflow_core.feast.compute_engine.DaskComputeEngine"] = (
        "mlflow_core.feast.compute_engine.DaskComputeEngine"
    )
    """Which compute engine this is."""
    cluster: ClusterName = "in-process"
    """``in-process``, a profile such as ``local``, a scheduler's address, or a table with the keys of ``[cluster]``."""
    workdir: str | None = None
    """A folder that all workers of a remote cluster reach; files of a run are removed when it ends."""


@dataclass(frozen=True)
class EngineJob(MaterializationJob):
    """One view's materialisation, ended.

    Attributes:
        task: What Feast asked for.
        boundary: The boundary that was materialised, microseconds since epoch, UTC; the end asked for where the
            view could not even be read.
        materialised: The values and the report; None if it failed.
        written: Rows that changed in the online store.
        failure: Why it failed, or None.
    """

    task: MaterializationTask
    boundary: int
    materialised: Materialised | None = None
    written: int = 0
    failure: BaseException | None = None

    def status(self) -> MaterializationJobStatus:
        """Return SUCCEEDED or ERROR."""
        return MaterializationJobStatus.ERROR if self.failure else MaterializationJobStatus.SUCCEEDED

    def error(self) -> BaseException | None:
        """Return why it failed, or None."""
        return self.failure

    def should_be_retried(self) -> bool:
        """Return False: a run that failed is repeated by asking for it again."""
        return False

    def job_id(self) -> str:
        """Return the view's name and its boundary."""
        return f"{self.task.feature_view.name}@{self.boundary}"

    def url(self) -> str | None:
        """Return None: there is no page about it."""
        return None


class DaskComputeEngine(ComputeEngine):
    """Materialisation by the engine, all views of one call on one cluster."""

    def __init__(
        self, *, cluster: str | Mapping[str, Any] = "in-process", workdir: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._cluster = cluster
        self._workdir = workdir
        self.last_jobs: list[EngineJob] = []
        """The jobs of the last call: Feast drops what an engine returns, and somebody may want to report it."""
        self.performance_report: str | None = None
        """A file for Dask's own report on the next calls; None writes none."""

    @property
    def supports_batch(self) -> bool:
        """Whether all views are handed over in one call: yes, so that they share a cluster."""
        return True

    @property
    def applies_materialization(self) -> bool:
        """Whether the engine writes Feast's watermarks: yes, because they are the boundary, not the end asked for."""
        return True

    def update(
        self,
        project: str,
        views_to_delete: Sequence[FeastView],
        views_to_keep: Sequence[Any],
        entities_to_delete: Sequence[FeastEntity],
        entities_to_keep: Sequence[FeastEntity],
    ) -> None:
        """Do nothing: there is no infrastructure beside the cluster of each run."""

    def teardown_infra(self, project: str, fvs: Sequence[FeastView], entities: Sequence[FeastEntity]) -> None:
        """Do nothing: there is no infrastructure beside the cluster of each run."""

    def materialize(
        self,
        registry: BaseRegistry,
        tasks: MaterializationTask | list[MaterializationTask],
        **kwargs: Any,
    ) -> list[MaterializationJob]:
        """Materialise views to their boundaries.

        Args:
            registry: Feast's registry, where the watermarks are written.
            tasks: One task a view, with the end asked for.
            kwargs: Lineage that Feast passes to engines that emit it; not used.

        Returns:
            One ended job a task, in order. A view that fails does not stop the others.
        """
        todo = [tasks] if isinstance(tasks, MaterializationTask) else tasks
        self.last_jobs = []
        with open_route(
            self._cluster,
            workdir=self._workdir,
            base=str(self.repo_config.repo_path or "."),
            performance_report=self.performance_report,
        ) as route:
            for task in todo:
                self.last_jobs.append(self._one(registry, task, route))
        return list(self.last_jobs)

    def _one(self, registry: BaseRegistry, task: MaterializationTask, route: Route) -> EngineJob:
        job = EngineJob(task, _us(task.end_time))
        try:
            return self._materialised(registry, job, route)
        except MlcoreError as error:
            return replace(job, failure=error)
        except Exception as error:
            # The boundary of one view's run: Feast would undo the states of all views, also of those written.
            _log.exception("a view was not materialised", extra={"view": task.feature_view.name})
            return replace(job, failure=error)

    def _materialised(self, registry: BaseRegistry, job: EngineJob, route: Route) -> EngineJob:
        task, repo_path = job.task, str(self.repo_config.repo_path or ".")
        view = view_of(task.feature_view, repo_path=repo_path)
        boundary = boundary_of(view, task.end_time, self._clock())
        # The whole history up to the boundary, whatever start Feast made up: windows need it, and a row that is
        # written again with the same version changes nothing.
        result = materialise(view, boundary, base=repo_path, start=_us(task.start_time), route=route)
        written = self._write(task.feature_view, view, result.table, boundary)
        end = _EPOCH + timedelta(microseconds=boundary)
        registry.apply_materialization(
            task.feature_view, task.project, min(_aware(task.start_time), end), end
        )
        if task.tqdm_builder and result.table.num_rows:
            with task.tqdm_builder(result.table.num_rows) as bar:
                bar.update(result.table.num_rows)
        return replace(job, boundary=boundary, materialised=result, written=written)

    def _write(self, feast_view: FeastView, view: FeatureView, table: pa.Table, boundary: int) -> int:
        if isinstance(self.online_store, PackedOnlineStore):
            return self.online_store.write_materialised(self.repo_config, feast_view, table, boundary)
        return self._write_protos(feast_view, view, table, boundary)

    def _write_protos(self, feast_view: FeastView, view: FeatureView, table: pa.Table, boundary: int) -> int:
        """Write through the interface that every online store of Feast's has."""
        source = feast_view.batch_source
        if source is None:
            raise PlanError("has no batch source", object=view.title, place=view.place)
        times = table[EVENT_TIME].combine_chunks().fill_null(pa.scalar(boundary, pa.int64()).cast(TIME))
        named = table.drop_columns([EVENT_TIME, CREATED]).append_column(source.timestamp_field, times)
        if source.created_timestamp_column:
            named = named.append_column(source.created_timestamp_column, table[CREATED])
        if not view.keys:
            named = named.append_column(
                DUMMY_ENTITY_ID, pa.array([DUMMY_ENTITY_VAL] * named.num_rows, pa.string())
            )
        join_keys = {column.name: column.dtype.to_value_type() for column in feast_view.entity_columns}
        # Feast converts only the first chunk of a table.
        rows = _convert_arrow_to_proto(named.combine_chunks(), feast_view, join_keys)
        self.online_store.online_write_batch(self.repo_config, feast_view, rows, None)
        return len(rows)

    def _clock(self) -> Clock:
        if isinstance(self.online_store, PackedOnlineStore):
            return self.online_store.clock(self.repo_config)
        return SystemClock()


def boundary_of(view: FeatureView, end: datetime, clock: Clock) -> int:
    """Return the boundary that a materialisation up to ``end`` reaches.

    It is the last boundary at or before the end whose values can be there by the clock; a view without
    availability has no boundaries and reaches the end itself.

    Args:
        view: The view.
        end: The end asked for; a naive time is UTC.
        clock: What time it is for the online store.

    Returns:
        Microseconds since epoch, UTC.
    """
    if view.availability is None:
        return _us(end)
    return min(view.availability.floor(_us(end)), view.availability.boundary(clock.now_us()))


def _us(moment: datetime) -> int:
    since = _aware(moment) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
