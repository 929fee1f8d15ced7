"""A repository of nothing but stock Feast, its rows in Redis: what a team has before it puts our server in front."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource
from feast.types import (
    Array,
    Bool,
    Bytes,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    Map,
    String,
    UnixTimestamp,
    Uuid,
)
from feast.value_type import ValueType

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
AT = pa.timestamp("us", "UTC")
ADA, BOB = UUID(int=1), UUID(int=2**100)

YAML = """\
project: stock
provider: local
registry:
  registry_type: {registry_type}
  path: {registry}
offline_store:
  type: dask
online_store:
  type: redis
  connection_string: "{connection}"
{online}entity_key_serialization_version: {key_version}
"""

KINDS: dict[str, tuple[Any, list[Any]]] = {
    "flag": (Bool, [True, False, None]),
    "big": (Int64, [2**62, -(2**62), None]),
    "small": (Int32, [0, -7, None]),
    "ratio": (Float64, [0.1, float("inf"), None]),
    "single": (Float32, [0.1, -2.5, None]),
    "name": (String, ["Zoë " * 100, "", None]),
    "raw": (Bytes, [b"\x00\xff", b"", None]),
    "seen": (UnixTimestamp, [NOON, datetime(1960, 1, 1, tzinfo=UTC), None]),
    "ident": (Uuid, [str(ADA), str(BOB), None]),
    "extra": (Json, ['{"a": [1, null]}', "[]", None]),
    "flags": (Array(Bool), [[True, False], [False], None]),
    "bigs": (Array(Int64), [[1, -1, 2**40], [5], None]),
    "smalls": (Array(Int32), [[1, -1], [0], None]),
    "ratios": (Array(Float64), [[0.5, 1e300], [0.0], None]),
    "singles": (Array(Float32), [[0.1] * 40, [1.5], None]),
    "names": (Array(String), [["a", "ü"], [""], None]),
    "raws": (Array(Bytes), [[b"a", b"\x00"], [b"x"], None]),
    "times": (Array(UnixTimestamp), [[NOON], [NOON, NOON - HOUR], None]),
    "words": (Map, [{"a": "b", "ü": "ö"}, {"x": ""}, None]),
}
"""Every type that Feast can keep and we can read: two values and a null, for users 1, 2 and 3."""

USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
ORIGIN = Entity(name="origin", join_keys=["origin"], value_type=ValueType.STRING)
GATE = Entity(name="gate", join_keys=["a_gate"], value_type=ValueType.INT32)
TOKEN = Entity(name="token", join_keys=["token"], value_type=ValueType.BYTES)

# What the rows of each further view hold: its key columns, its features, how old the rows are.
VIEWS: dict[str, tuple[list[Entity], dict[str, Any], dict[str, Any], timedelta]] = {
    "spending": (
        [USER],
        {"user_id": pa.array([1, 2, 4], pa.int64())},
        {"total": (Float64, [1.5, None, 4.5]), "orders": (Int64, [3, 4, 5])},
        HOUR,
    ),
    "gates": (
        [ORIGIN, GATE],
        {"origin": ["EWR", "JFK", "JFK"], "a_gate": pa.array([1, 1, -2], pa.int32())},
        {"wait": (Float32, [1.0, 2.0, 3.0]), "label": (String, ["one", "two", None])},
        HOUR,
    ),
    "tokens": (
        [TOKEN],
        {"token": pa.array([b"\x00\x01", b"", b"abc"], pa.binary())},
        {"uses": (Int64, [1, 2, 3])},
        HOUR,
    ),
    "stale": ([USER], {"user_id": pa.array([1, 2, 3], pa.int64())}, {"old": (Int64, [1, 2, 3])}, 72 * HOUR),
    "weather": ([], {}, {"temp": (Float64, [21.5])}, HOUR),
}
TTLS = {"stale": 48 * HOUR, "spending": 48 * HOUR}
ENTITIES = {"user_id": [1, 2, 3, 4, 99, 2], "origin": ["EWR", "JFK", "JFK", "LGA", "EWR", "JFK"]}
ENTITIES |= {"a_gate": [1, 1, -2, 1, 7, 1], "token": [b"\x00\x01", b"", b"abc", b"abcd", b"\x00", b""]}


@contextmanager
def stock_store(
    root: Path,
    connection: str,
    *,
    online: str = "",
    registry_type: str = "sql",
    key_version: int = 3,
) -> Iterator[FeatureStore]:
    """Write a project's settings and a stock repository in it, and open it with Feast."""
    repo = root / "feature_repo"
    (repo / "data").mkdir(parents=True)
    (root / "token").write_text("may-push-and-delete-here\n")
    (root / "mlcore.toml").write_text(
        '[project]\nfeature_repo = "feature_repo"\n[serve.tokens]\nops = "${file:token}"\n'
    )
    registry = f"sqlite:///{repo}/data/registry.db" if registry_type == "sql" else "data/registry.db"
    (repo / "feature_store.yaml").write_text(
        YAML.format(
            connection=connection,
            online=online,
            registry_type=registry_type,
            registry=registry,
            key_version=key_version,
        )
    )
    store = FeatureStore(str(repo))
    try:
        yield store
    finally:
        opened = store._get_provider().online_store._client  # Feast itself never closes it
        if opened is not None:
            opened.close()
        if registry_type == "sql":
            store.registry.write_engine.dispose()


def fill(store: FeatureStore) -> None:
    """Apply the views and write their rows: one through ``write_to_online_store``, the others by materialising."""
    repo = Path(str(store.repo_path))
    users = {"user_id": pa.array([1, 2, 3], pa.int64())}
    views = {"kinds": _view(repo, "kinds", [USER], users, KINDS)}
    for name, (entities, keys, features, age) in VIEWS.items():
        views[name] = _view(repo, name, entities, keys, features)
        columns = {
            feature: pa.array(values, _ARROW.get(kind)) for feature, (kind, values) in features.items()
        }
        times = pa.array(_moments(age, len(next(iter(columns.values())))), AT)
        pq.write_table(
            pa.table({**keys, **columns, "event_timestamp": times}), repo / "data" / f"{name}.parquet"
        )
    services = [
        FeatureService(name="everything", features=[views["kinds"], views["spending"], views["stale"]]),
        FeatureService(name="at_the_gate", features=[views["gates"], views["spending"][["orders"]]]),
        FeatureService(name="by_token", features=[views["tokens"]]),
        FeatureService(name="outside", features=[views["weather"]]),
        FeatureService(
            name="renamed", features=[views["spending"].with_join_key_map({"user_id": "friend_id"})]
        ),
    ]
    store.apply([USER, ORIGIN, GATE, TOKEN, *views.values(), *services])
    # Feast reads no maps from a file, and no int64 beyond 2**53 beside a null from a column of floats.
    kinds = {name: pd.Series(values, dtype=object) for name, (_, values) in KINDS.items()}
    store.write_to_online_store(
        "kinds", pd.DataFrame({"user_id": [1, 2, 3], **kinds, "event_timestamp": _moments(HOUR, 3)})
    )
    store.materialize(NOON - 200 * HOUR, NOON, feature_views=list(VIEWS))


_ARROW = {Int32: pa.int32(), Float32: pa.float32()}
_KEY_TYPES = {"user_id": Int64, "origin": String, "a_gate": Int32, "token": Bytes}


def _moments(age: timedelta, n: int) -> list[datetime]:
    """Times of rows, no two the same and none on a whole second."""
    return [NOON - age - timedelta(seconds=i, microseconds=123_456) for i in range(n)]


def _view(
    repo: Path, name: str, entities: list[Entity], keys: Mapping[str, Any], features: Mapping[str, Any]
) -> FeatureView:
    return FeatureView(
        name=name,
        entities=entities,
        ttl=TTLS.get(name, timedelta(0)),
        schema=[Field(name=key, dtype=_KEY_TYPES[key]) for key in keys]
        + [Field(name=feature, dtype=kind) for feature, (kind, _) in features.items()],
        source=FileSource(
            name=f"{name}_source",
            path=str(repo / "data" / f"{name}.parquet"),
            timestamp_field="event_timestamp",
        ),
    )
