"""The data that both sides hold, its Feast declarations, what is asked of it and what the right answer is.

Benign data has a value for everybody and no TTL, so both sides must answer the same. Each entity has an older and a newer
row in every view; event times differ and have microseconds. Declarations are Feast's own classes and nothing else: only
``feature_store.yaml`` says whose stores hold the values.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.types import Float64, Int64
from feast.value_type import ValueType

__all__ = [
    "CASES",
    "KEY",
    "SEED",
    "VIEWS",
    "Case",
    "World",
    "bodies",
    "features_of",
    "keys_asked",
    "make_world",
]

SEED = 20261122
KEY = "user_id"
VIEWS = tuple(f"view{number}" for number in range(5))
FEATURES_A_VIEW = 10
VERSIONS = 2  # rows of an entity in each view; the latest counts
START, DAY = 1_704_067_200_000_000, 86_400_000_000  # 2024-01-01
TIME = pa.timestamp("us", tz="UTC")
SERVICES = {"one": VIEWS[:1], "five": VIEWS}


@dataclass(frozen=True)
class Case:
    """How many entities are asked for at once, and from which feature service."""

    name: str
    entities: int
    service: str

    @property
    def views(self) -> tuple[str, ...]:
        return SERVICES[self.service]

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(name for view in self.views for name in features_of(view))


CASES = (
    Case("1 x 10", 1, "one"),
    Case("1 x 50", 1, "five"),
    Case("10 x 50", 10, "five"),
    Case("100 x 50", 100, "five"),
)


@dataclass(frozen=True)
class World:
    """Files on disk, and the truth about them: values and event times (us) of the latest row by feature and entity."""

    folder: Path
    n_entities: int
    values: dict[str, np.ndarray]
    times: dict[str, np.ndarray]

    def truth(self, case: Case, keys: Sequence[int]) -> dict[str, list[tuple[Any, str, int | None]]]:
        """Return (value, status, event time) of each row by column, the entity's own included."""
        found: dict[str, list[tuple[Any, str, int | None]]] = {KEY: [(key, "PRESENT", None) for key in keys]}
        for view in case.views:
            for name in features_of(view):
                column, times = self.values[name], self.times[view]
                found[name] = [(float(column[key]), "PRESENT", int(times[key])) for key in keys]
        return found

    def objects(self) -> list[Any]:
        """Return what a repository applies."""
        entity = Entity(name="user", join_keys=[KEY], value_type=ValueType.INT64)
        views = {name: _view(self.folder, name, entity) for name in VIEWS}
        services = [
            FeatureService(name=name, features=[views[view] for view in some])
            for name, some in SERVICES.items()
        ]
        return [entity, *views.values(), *services]


def make_world(folder: Path, n_entities: int, *, seed: int = SEED) -> World:
    """Write the Parquet files of all views, or read back the truth where they are there already."""
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, np.ndarray] = {}
    times: dict[str, np.ndarray] = {}
    for number, view in enumerate(VIEWS):
        rng = np.random.default_rng([seed, number])
        n = n_entities * VERSIONS
        order = rng.permutation(n)
        key = np.tile(np.arange(n_entities), VERSIONS)
        # The first half is older than the second; distinct times, none of them a whole second.
        at = START + np.arange(n) * (365 * DAY // n) + rng.integers(1, 999, n)
        columns = {name: rng.normal(size=n) for name in features_of(view)}
        path = folder / f"{view}.parquet"
        if not path.exists():
            made: dict[str, Any] = {KEY: key[order], "event_timestamp": pa.array(at[order], TIME)}
            made |= {name: column[order] for name, column in columns.items()}
            pq.write_table(pa.table(made), path)
        values |= {name: column[-n_entities:] for name, column in columns.items()}
        times[view] = at[-n_entities:]
    return World(folder, n_entities, values, times)


def features_of(view: str) -> tuple[str, ...]:
    """Return the names of a view's features, distinct over all views."""
    return tuple(f"{view}_f{number}" for number in range(FEATURES_A_VIEW))


def keys_asked(case: Case, n_entities: int, n: int, *, seed: int = SEED) -> list[list[int]]:
    """Return the keys of ``n`` requests, drawn uniformly."""
    rng = np.random.default_rng([seed, case.entities, len(case.views)])
    return rng.integers(0, n_entities, (n, case.entities)).tolist()


def bodies(case: Case, asked: Sequence[Sequence[int]], *, compact: bool = False) -> list[bytes]:
    """Return one request body for each list of keys: Feast's, or that of ``/v1/features``."""
    if compact:
        rows = [[{KEY: key} for key in keys] for keys in asked]
        return [json.dumps({"service": case.service, "entities": one}).encode() for one in rows]
    return [
        json.dumps({"feature_service": case.service, "entities": {KEY: list(keys)}}).encode()
        for keys in asked
    ]


def _view(folder: Path, name: str, entity: Entity) -> FeatureView:
    path = str(folder / f"{name}.parquet")
    return FeatureView(
        name=name,
        entities=[entity],
        ttl=timedelta(0),
        schema=[Field(name=KEY, dtype=Int64), *(Field(name=one, dtype=Float64) for one in features_of(name))],
        source=FileSource(name=f"{name}_source", path=path, timestamp_field="event_timestamp"),
    )
