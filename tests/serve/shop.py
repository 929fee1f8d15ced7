"""A small, whole project on disk: a shop's orders and profiles, applied and materialised for real."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import uvicorn

from mlflow_core.cli.boundary import run
from mlflow_core.serve.run import SERVER

NOW = "2024-01-10T10:30:00Z"
ROW = {"user_id": 1, "basket": 30.0}
TIME = pa.timestamp("us", tz="UTC")

_YAML = """\
project: shop
provider: local
registry:
  registry_type: sql
  path: sqlite:///data/registry.db
offline_store:
  type: mlflow_core.feast.offline_store.DaskOfflineStore
online_store:
  type: mlflow_core.feast.online_store.PackedOnlineStore
  path: data/online.db
batch_engine:
  type: mlflow_core.feast.compute_engine.DaskComputeEngine
entity_key_serialization_version: 3
"""

DECLARATIONS = """\
import mlflow_core as ml

user = ml.Entity("user", keys=["user_id"])
orders = ml.ParquetSource("orders", path="data/orders.parquet", event_time="at", known_at="known", event_id="order_id")
profiles = ml.ParquetSource("profiles", path="data/profiles.parquet", event_time="at")
spending = ml.FeatureView(
    "spending", entity=user, source=orders, availability=ml.Every("1h", delay="10m"),
    features=[
        ml.Agg("amount", ["sum", "mean"], over="24h"),
        ml.Agg("*", "count", over="24h", name="orders_24h"),
        ml.Agg("item", "last(3)", over="7d", name="last_items"),
    ],
)
profile = ml.FeatureView(
    "profile", entity=user, source=profiles, ttl="2d", availability=ml.Every("1h", delay="10m"),
    features=["country", "score", "big", "joined", "token"],
)


@ml.on_demand(inputs=[spending[["amount_mean_24h"]]], request={"basket": float})
def against_usual(x):
    return {"relative": x["basket"] / x["amount_mean_24h"]}


shop = ml.FeatureService("shop", [spending, profile, against_usual], description="What a till asks for.")
plain = ml.FeatureService("plain", [spending[["amount_mean_24h", "orders_24h"]]])
"""


def at(day: int, hour: int, minute: int = 0) -> datetime:
    """A moment of January 2024, UTC."""
    return datetime(2024, 1, day, hour, minute, tzinfo=UTC)


def make_project(root: Path, package: str) -> Path:
    """Write the project's files; each test folder has a package of its own, since a process imports a name once."""
    repo = root / package
    (repo / "data").mkdir(parents=True)
    (root / "mlcore.toml").write_text(f'[project]\nfeature_repo = "{package}"\n')
    (repo / "__init__.py").write_text("")
    (repo / "feature_store.yaml").write_text(_YAML)
    (repo / "shop.py").write_text(DECLARATIONS)
    orders = {
        "order_id": ["a", "b", "c", "d"],
        "user_id": pa.array([1, 1, 2, 3], pa.int64()),
        "amount": [10.0, 20.0, 5.0, None],
        "item": ["pen", "ink", "pen", None],
        "at": pa.array([at(10, 8), at(10, 9), at(10, 9), at(10, 9)], TIME),
        "known": pa.array([at(10, 8), at(10, 9, 30), at(10, 9, 5), at(10, 9, 5)], TIME),
    }
    profiles = {
        "user_id": pa.array([1, 2, 3], pa.int64()),
        "country": ["CH", "DE", None],
        "score": [1.5, float("inf"), float("nan")],
        "big": pa.array([2**60, 5, None], pa.int64()),
        "joined": pa.array([at(1, 0), at(2, 0, 5), None], TIME),
        "token": pa.array([b"\x00\xff", b"", None], pa.binary()),
        # 2: older than the TTL of two days at NOW
        "at": pa.array([at(10, 1), at(5, 1), at(10, 2)], TIME),
    }
    pq.write_table(pa.table(orders), repo / "data" / "orders.parquet")
    pq.write_table(pa.table(profiles), repo / "data" / "profiles.parquet")
    return root


def mlcore(root: Path, *words: str) -> int:
    """Run the command in this process; its exit code."""
    return run(["--root", str(root), *words])


def prepared(root: Path, package: str) -> Path:
    """A project that is applied and materialised to ten o'clock."""
    make_project(root, package)
    assert mlcore(root, "apply") == 0
    assert mlcore(root, "materialize", "--to", "2024-01-10T10:00Z", "--clock", "2024-01-10T10:10Z") == 0
    return root


@contextmanager
def running(app: object, **options: object) -> Iterator[str]:
    """Run an ASGI application as ``mlcore serve`` does, but for some options, on a free port of the loopback; its address."""
    config = uvicorn.Config(app, **{**SERVER, **options, "port": 0, "log_level": "error"})  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        assert server.started, "the server did not start"
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)


def until(holds: object, seconds: float = 30.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.02)


def names(rows: Sequence[dict[str, object]]) -> list[object]:
    """The names of catalogue entries."""
    return [row["name"] for row in rows]


def train_model(
    root: Path, *, features: Sequence[str] = ("amount_mean_24h", "orders_24h", "relative")
) -> object:
    """Train a small model on the shop's features as they are now, and register it as ``returns``."""
    import numpy as np

    from mlflow_core.artifacts import ArtifactStore
    from mlflow_core.config import FixedClock, Principal, load_settings, parse_time
    from mlflow_core.metadata import MetadataStore
    from mlflow_core.serve.features import Features, make_importable
    from mlflow_core.spec import XGBoost
    from mlflow_core.train import TrainContext, fit
    from mlflow_core.train.data.training_set import TrainingData

    settings = load_settings(root)
    make_importable(root)
    clock = FixedClock(parse_time(NOW))
    served = Features.open(settings.feature_repo_path(), clock)
    fingerprints = dict(served.service("shop").fingerprints)
    served.close()
    random = np.random.default_rng(7)
    shards = {}
    for part, rows in (("train", 400), ("validate", 100)):
        columns = {name: random.normal(10.0, 5.0, rows) for name in features}
        label = columns[features[0]] + random.normal(0.0, 1.0, rows) > 10.0
        path = root / f"{part}.parquet"
        times = pa.array(np.arange(rows), pa.int64()).cast(TIME)
        pq.write_table(pa.table({**columns, "label": label, "event_timestamp": times}), path)
        shards[part] = (path,)
    data = TrainingData(shards=shards, label="label", features=tuple(features))
    model = fit(XGBoost(rounds=5, max_depth=3, seed=7), data, TrainContext(workdir=root / "work"))
    model = model.with_metadata(service="shop", fingerprints=fingerprints)
    artifact = ArtifactStore(settings.artifact_location()).put_tree(model.save(root / "work" / "model"))
    with MetadataStore(settings.metadata_url(), clock, Principal("test"), project="shop") as metadata:
        version = metadata.register_model_version("returns", None, artifact.digest)
        metadata.move_alias("returns", "candidate", version.version, "a test")
    return model
