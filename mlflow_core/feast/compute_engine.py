"""Feast's compute engine over our engine: ``materialize`` to the boundary, into whichever online store there is.

Named in ``feature_store.yaml`` as ``batch_engine: {type: mlflow_core.feast.compute_engine.DaskComputeEngine}``.
It translates Feast's tasks; what a boundary's values are is decided by the engine, and which of two stored
values wins by the online store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from feast.entity import Entity as FeastEntity
from feast.feature_view import FeatureView as FeastView
from feast.infra.common.materialization_job import (
    MaterializationJob,
    MaterializationJobStatus,
    MaterializationTask,
)
from feast.infra.compute_engines.base import ComputeEngine
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel, RepoConfig

from mlflow_core.config.clock import Clock, SystemClock
from mlflow_core.engine.materialise import MaterialisationReport, Materialised, materialise
from mlflow_core.engine.route import Route
from mlflow_core.errors import MlcoreError, SourceError
from mlflow_core.feast.cluster import ClusterName, open_route
from mlflow_core.feast.erasures import erasures_of
from mlflow_core.feast.online_store import PackedOnlineStore
from mlflow_core.feast.view_run import Rewrite, ViewPlan, plan_of_protos, plan_of_view
from mlflow_core.plan.erasures import Erasures
from mlflow_core.plan.from_feast import view_of
from mlflow_core.spec import FeatureView
from mlflow_core.telemetry import Progress, SilentProgress, get_logger

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
        report: What was found and written, of a failed one as far as it came; None if it did not begin.
        completes: The boundary of an earlier run that did not finish and that this one was to complete, or None.
        why_all: Why all entities were written, in words; None where only what can have changed was.
        seconds: From the start of the call until this view had ended.
        failure: Why it failed, or None.
    """

    task: MaterializationTask
    boundary: int
    report: MaterialisationReport | None = None
    completes: int | None = None
    why_all: str | None = None
    seconds: float = 0.0
    failure: BaseException | None = None

    @property
    def written(self) -> int:
        """Rows that changed in the online store."""
        return 0 if self.report is None else self.report.sunk.changed

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
        self.rewrite: Rewrite = "since"
        """What the next calls write; Feast's own say from when on. See ``mlflow_core.feast.view_run.Rewrite``."""
        self.progress: Progress = SilentProgress()
        """Who is told how far the next calls have come."""
        self.erasures: Callable[[RepoConfig], Erasures] = erasures_of
        """Says who was erased; who runs under other settings than those of the repository's folder says otherwise."""

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
        started = time.monotonic()
        jobs = [EngineJob(task, _us(task.end_time)) for task in todo]
        plans: dict[int, ViewPlan] = {}
        erased = self.erasures(self.repo_config)
        for place, task in enumerate(todo):
            try:
                plans[place] = plan = self._plan(task, erased)
                jobs[place] = replace(
                    jobs[place], boundary=plan.ask.boundary, completes=plan.completes, why_all=plan.why_all
                )
            except Exception as error:
                jobs[place] = self._failed(jobs[place], error, started)
        self.last_jobs = jobs
        if not plans:
            return list(jobs)
        with open_route(
            self._cluster,
            workdir=self._workdir,
            base=str(self.repo_config.repo_path or "."),
            performance_report=self.performance_report,
        ) as route:
            self._run(registry, jobs, plans, route, erased, started)
        return list(jobs)

    def _plan(self, task: MaterializationTask, erased: Erasures) -> ViewPlan:
        view = view_of(task.feature_view, repo_path=str(self.repo_config.repo_path or "."))
        boundary = boundary_of(view, task.end_time, self._clock())
        if not isinstance(self.online_store, PackedOnlineStore):
            return plan_of_protos(
                self.repo_config, self.online_store, task.feature_view, view, boundary, erased=erased
            )
        return plan_of_view(
            self.online_store.backend(self.repo_config),
            task.feature_view,
            view,
            boundary,
            start=_us(task.start_time),
            rewrite=self.rewrite,
            erased=erased,
        )

    def _run(
        self,
        registry: BaseRegistry,
        jobs: list[EngineJob],
        plans: Mapping[int, ViewPlan],
        route: Route,
        erased: Erasures,
        started: float,
    ) -> None:
        """Run what was planned, and replace each job by the one that has ended."""
        places: list[int] = []
        for place, plan in plans.items():
            try:
                plan.begin()
            except Exception as error:
                jobs[place] = self._failed(jobs[place], error, started)
            else:
                places.append(place)
        asks = [plans[place].ask for place in places]
        base = str(self.repo_config.repo_path or ".")

        def conclude(place: int, done: Materialised) -> None:
            jobs[place] = self._concluded(registry, jobs[place], plans[place], done, erased, started)

        # Feast's registry takes its time for each watermark; the next view's rows are written meanwhile.
        with ThreadPoolExecutor(1, thread_name_prefix="mlcore-watermark") as concluding:
            concluded = [
                concluding.submit(conclude, places[done.place], done)
                for done in materialise(asks, base=base, route=route, progress=self.progress)
            ]
        for one in concluded:
            one.result()

    def _concluded(
        self,
        registry: BaseRegistry,
        job: EngineJob,
        plan: ViewPlan,
        done: Materialised,
        erased: Erasures,
        started: float,
    ) -> EngineJob:
        """Note in the store and in the registry that a view's last row is written, or that it failed."""
        job = replace(job, report=done.report, why_all=job.why_all or done.report.why_all)
        try:
            # Of who was erased meanwhile, values may have been written under keys that nobody knew then. The run
            # is still noted as unfinished: should it die here, the next one buries them.
            if since := self.erasures(self.repo_config).since(erased):
                plan.bury(since)
            if done.failure is None:
                plan.finish(done.report)
                self._mark(registry, job)
            elif isinstance(done.failure, SourceError) and not done.report.sunk.rows:
                plan.untouched()
        except Exception as error:
            return self._failed(job, done.failure or error, started)
        if done.failure is not None:
            return self._failed(job, done.failure, started)
        return replace(job, seconds=time.monotonic() - started)

    def _mark(self, registry: BaseRegistry, job: EngineJob) -> None:
        task, end = job.task, _EPOCH + timedelta(microseconds=job.boundary)
        registry.apply_materialization(
            task.feature_view, task.project, min(_aware(task.start_time), end), end
        )
        rows = 0 if job.report is None else job.report.rows
        if task.tqdm_builder and rows:
            with task.tqdm_builder(rows) as bar:
                bar.update(rows)

    def _failed(self, job: EngineJob, error: BaseException, started: float) -> EngineJob:
        # The boundary of one view's run: Feast would undo the states of all views, also of those written.
        if not isinstance(error, MlcoreError):
            _log.error(
                "a view was not materialised", exc_info=error, extra={"view": job.task.feature_view.name}
            )
        return replace(job, failure=error, seconds=time.monotonic() - started)

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
