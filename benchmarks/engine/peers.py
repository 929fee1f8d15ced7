"""The peers, each asked for the same features of the same file."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float64
from feast.value_type import ValueType

from benchmarks.engine.data import Case

__all__ = ["duckdb_asof", "duckdb_windows", "feast_dask", "pandas_asof"]


def pandas_asof(case: Case) -> np.ndarray[Any, Any]:
    """As-of join by ``merge_asof``, file reading and the caller's order included."""
    events = pd.read_parquet(case.file, columns=["key", "happened", "value"]).sort_values("happened")
    rows = case.rows.to_pandas().reset_index().sort_values("event_timestamp")
    joined = pd.merge_asof(rows, events, left_on="event_timestamp", right_on="happened", by="key")
    return joined.sort_values("index")["value"].to_numpy()


def duckdb_asof(case: Case) -> np.ndarray[Any, Any]:
    """As-of join by DuckDB's ASOF JOIN, one thread."""
    duck = duckdb.connect(config={"threads": 1})
    duck.register("asked", case.rows.append_column("row", [list(range(case.rows.num_rows))]))
    answer = duck.sql(
        f"SELECT e.value FROM asked r ASOF LEFT JOIN '{case.file}' e "
        "ON r.key = e.key AND r.event_timestamp >= e.happened ORDER BY r.row"
    ).fetchnumpy()["value"]
    return np.ma.filled(answer, np.nan)


def duckdb_windows(case: Case, hours: tuple[int, ...]) -> dict[str, np.ndarray[Any, Any]]:
    """Count, sum, mean, min and max over each window by a range join, one thread."""
    duck = duckdb.connect(config={"threads": 1})
    duck.register("asked", case.rows.append_column("row", [list(range(case.rows.num_rows))]))
    answers: dict[str, np.ndarray[Any, Any]] = {}
    for window in hours:
        found = duck.sql(
            "SELECT count(e.value) AS n, sum(e.value) AS s, avg(e.value) AS m, min(e.value) AS lo, max(e.value) AS hi "
            f"FROM asked r LEFT JOIN '{case.file}' e ON r.key = e.key AND e.happened <= r.event_timestamp "
            f"AND e.happened > r.event_timestamp - INTERVAL {window} HOUR GROUP BY r.row ORDER BY r.row"
        ).fetchnumpy()
        for name, short in (("count", "n"), ("sum", "s"), ("mean", "m"), ("min", "lo"), ("max", "hi")):
            answers[f"value_{name}_{window}h"] = np.ma.filled(found[short].astype(float), np.nan)
    return answers


def feast_dask(case: Case, ttl: timedelta | None = None) -> pd.DataFrame:
    """Feast's own default offline store; the rows it returns carry ``row``, the entity row's place."""
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry={"registry_type": "sql", "path": f"sqlite:///{case.folder}/registry.db"},
            entity_key_serialization_version=3,
            repo_path=case.folder,
            offline_store={"type": "dask"},
        )
    )
    entity = Entity(name="key", join_keys=["key"], value_type=ValueType.INT64)
    source = FileSource(
        name="events", path=str(case.file), timestamp_field="happened", created_timestamp_column="created"
    )
    view = FeatureView(
        name="v", entities=[entity], ttl=ttl, source=source, schema=[Field(name="value", dtype=Float64)]
    )
    store.apply([entity, view])
    asked = case.rows.to_pandas().assign(row=range(case.rows.num_rows))
    return store.get_historical_features(asked, ["v:value"]).to_df()
