"""Feast's own offline stores, ``dask`` and ``duckdb``, through ``FeatureStore.get_historical_features``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.data_format import ParquetFormat
from feast.types import Float64
from feast.value_type import ValueType

from benchmarks.engine.job import Call, Events, Job

__all__ = ["feast_dask", "feast_duckdb"]


@contextmanager
def feast_dask(job: Job) -> Iterator[Callable[[Job], Call]]:
    """Feast's default store."""
    del job
    yield lambda job: _call(job, "dask")


@contextmanager
def feast_duckdb(job: Job) -> Iterator[Callable[[Job], Call]]:
    """Feast's store on DuckDB, through ibis."""
    del job
    yield lambda job: _call(job, "duckdb")


def _call(job: Job, kind: str) -> Call:
    # Its own registry and folder each time: applying is not what is measured.
    folder = Path(job.scratch) / f"feast-{uuid4().hex}"
    folder.mkdir()
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry={"registry_type": "sql", "path": f"sqlite:///{folder}/registry.db"},
            entity_key_serialization_version=3,
            repo_path=folder,
            offline_store={"type": kind},
        )
    )
    entity = Entity(name="key", join_keys=["key"], value_type=ValueType.INT64)
    store.apply([entity, *(_view(job, one, entity, kind) for one in job.sources)])
    wanted = [f"{one.name}:{name}" for one in job.sources for name in one.features]

    def run(out: Path, cache: Path) -> None:
        del cache
        # Whole entity frames in pandas are what both stores take.
        found = store.get_historical_features(
            pd.read_parquet(job.rows), wanted, filter_by_created_timestamp=job.clock == "known"
        )
        found.to_df().to_parquet(out / "part.parquet")

    return run


def _view(job: Job, events: Events, entity: Entity, kind: str) -> FeatureView:
    created = "known" if job.clock == "known" else "created" if job.created else ""
    source = FileSource(
        name=events.name,
        # One reads folders, the other patterns.
        path=events.folder if kind == "dask" else events.glob,
        file_format=ParquetFormat(),
        timestamp_field="time",
        created_timestamp_column=created,
    )
    return FeatureView(
        name=events.name,
        entities=[entity],
        ttl=None if job.ttl_hours is None else timedelta(hours=job.ttl_hours),
        source=source,
        schema=[Field(name=name, dtype=Float64) for name in events.features],
    )
