"""A view that changes under load: every value is a function of its key and version, so that each answer can be judged alone.

``python -m benchmarks.online.changing ORDER.json`` applies it in a child process: first with a feature service of three
features, later with one of four, which is the registry change of the soak.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, PushSource
from feast.types import Float64, Int64, String
from feast.value_type import ValueType

from benchmarks.online.world import KEY, TIME, VIEWS, make_world

__all__ = ["PUSHES", "SERVICE", "VIEW", "Ledger", "row_of", "value_of"]

VIEW, SERVICE, PUSHES = "changing", "changes", "changing_pushes"
FEATURES: Mapping[str, Any] = {"version": Int64, "number": Float64, "text": String, "later": Int64}
BEFORE, AFTER = ("version", "number", "text"), ("version", "number", "text", "later")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def value_of(key: int, version: int, feature: str) -> Any:
    """Return what a feature of a key has in a version."""
    if feature == "version":
        return version
    digest = hashlib.blake2b(f"{key} {version} {feature}".encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "big") >> 16
    return {"number": number / 1024, "text": digest.hex(), "later": number}[feature]


def row_of(key: int, version: int) -> dict[str, Any]:
    """Return a row without its time."""
    return {KEY: key, **{name: value_of(key, version, name) for name in FEATURES}}


class Ledger:
    """Which versions have been sent and which acknowledged; used by several threads."""

    def __init__(self, n_keys: int) -> None:
        self.sent = [0] * n_keys
        self.acknowledged = [0] * n_keys
        self._lock = threading.Lock()

    def next(self, keys: Sequence[int]) -> list[dict[str, Any]]:
        """Note that the next versions of keys are being sent; return their rows."""
        with self._lock:
            for key in keys:
                self.sent[key] += 1
            return [row_of(key, self.sent[key]) for key in keys]

    def acknowledge(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Note that rows have been acknowledged."""
        with self._lock:
            for row in rows:
                key = row[KEY]
                self.acknowledged[key] = max(self.acknowledged[key], row["version"])

    def floor(self, keys: Sequence[int]) -> list[int]:
        """Return the versions that answers to a request sent from now on must have at least."""
        return [self.acknowledged[key] for key in keys]

    def wrong(
        self,
        keys: Sequence[int],
        floor: Sequence[int],
        cells: Mapping[str, Sequence[tuple[Any, str, int | None]]],
    ) -> int:
        """Count the rows of an answer that are not what some version between floor and sent is, whole."""
        counted = 0
        for place, (key, least) in enumerate(zip(keys, floor, strict=True)):
            row = {name: column[place][0] for name, column in cells.items() if name != KEY}
            version = row.get("version")
            known = isinstance(version, int) and least <= version <= self.sent[key]
            whole = known and not set(BEFORE) - set(row)
            counted += not whole or any(row[name] != value_of(key, version, name) for name in row)
        return counted


def objects(folder: Path, n_keys: int, features: Sequence[str]) -> list[Any]:
    """Return the declarations, and write version 0 of all keys where it is not there."""
    path = folder / f"{VIEW}.parquet"
    if not path.exists():
        rows = [row_of(key, 0) for key in range(n_keys)]
        at = pa.array([datetime.now(UTC) - timedelta(hours=1)] * n_keys, TIME)
        pq.write_table(pa.Table.from_pylist(rows).append_column("event_timestamp", at), path)
    # The entity of the steady views under a name of its own: two declarations of one name must be one.
    entity = Entity(name="changing_user", join_keys=[KEY], value_type=ValueType.INT64)
    batch = FileSource(name="changing_source", path=str(path), timestamp_field="event_timestamp")
    view = FeatureView(
        name=VIEW,
        entities=[entity],
        ttl=timedelta(0),
        schema=[
            Field(name=KEY, dtype=Int64),
            *(Field(name=one, dtype=kind) for one, kind in FEATURES.items()),
        ],
        source=PushSource(name=PUSHES, batch_source=batch),
    )
    return [entity, view, FeatureService(name=SERVICE, features=[view[list(features)]])]


def main(order: Path) -> None:
    """Apply the view with the features asked for, and materialise it the first time."""
    asked = json.loads(order.read_text())
    world = make_world(Path(asked["world"]), asked["entities"])
    store = FeatureStore(repo_path=asked["repo"])
    features = AFTER if asked["later"] else BEFORE
    store.apply([*world.objects(), *objects(world.folder, asked["entities"], features)])
    order.with_suffix(".applied").write_text(str(time.monotonic()))
    if not asked["later"]:
        store.materialize(EPOCH, datetime.now(UTC), feature_views=[*VIEWS, VIEW])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
