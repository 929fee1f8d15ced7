"""Our engine as a contestant, through its public calls: in process, and on two Dask workers of one thread and 2 GiB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq

import mlflow_core as ml
from benchmarks.engine.cluster import two_workers
from benchmarks.engine.job import AGGREGATES, Call, Events, Job
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.engine.retrieve import retrieve_to_shards
from mlflow_core.engine.route import InProcess, OnDask, Route
from mlflow_core.plan.retrieval import RetrievalPlan, plan_retrieval

__all__ = ["in_process", "on_dask", "plan_of"]


@contextmanager
def in_process(job: Job) -> Iterator[Callable[[Job], Call]]:
    """Without a cluster."""
    del job
    yield lambda job: _call(job, lambda _cache: InProcess())


@contextmanager
def on_dask(job: Job) -> Iterator[Callable[[Job], Call]]:
    """On a local cluster."""
    workdir = Path(job.scratch) / "work"
    workdir.mkdir()
    with two_workers() as client:
        yield lambda job: _call(job, lambda cache: OnDask(client, workdir, cache=Cache(cache)))


def plan_of(job: Job) -> RetrievalPlan:
    """Declare the job's views and plan their retrieval."""
    entity = ml.Entity("key")
    views = [_view(job, one, entity) for one in job.sources]
    return plan_retrieval(ml.FeatureService("bench", views), clock=job.clock)


def _view(job: Job, events: Events, entity: ml.Entity) -> ml.FeatureView:
    source = ml.ParquetSource(
        events.name,
        path=events.folder,
        event_time="time",
        known_at="known" if job.clock == "known" else None,
        created="created" if job.created else None,
        event_id="event_id" if job.identity else None,
    )
    features = [
        ml.Agg(name, list(AGGREGATES), over=[f"{hours}h" for hours in job.windows]) if job.windows else name
        for name in events.features
    ]
    ttl = None if job.ttl_hours is None else f"{job.ttl_hours}h"
    return ml.FeatureView(events.name, entity=entity, source=source, features=features, ttl=ttl)


def _call(job: Job, route: Callable[[Path], Route]) -> Call:
    plan = plan_of(job)

    def run(out: Path, cache: Path) -> None:
        retrieve_to_shards(plan, pq.read_table(job.rows), base=job.scratch, out=out, route=route(cache))

    return run
