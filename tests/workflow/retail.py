"""A small shop whose visits can be made to drift, with a pipeline that is started when they do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core.config import FixedClock, Principal, SystemClock
from mlflow_core.config.times import parse_time
from mlflow_core.metadata import MetadataStore, Schedule
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.schedule.declared import apply_schedules
from mlflow_core.workflow.schedule.measuring import measure_drift
from mlflow_core.workflow.training import run_pipeline

DAY = 86_400_000_000
START = parse_time("2024-01-01")
DRIFTED = 'by=0.2, over="7d", look="1s"'

_SETTINGS = """[project]
name = "shop"
feature_repo = "retail"
pipelines = "retail_training"

[metadata]
url = "sqlite:///metadata.db"
"""
_STORE = """project: shop
provider: local
registry: {registry_type: sql, path: sqlite:///registry.db}
offline_store: {type: dask}
online_store: {type: sqlite, path: online.db}
entity_key_serialization_version: 3
"""
_SPECS = '''"""What customers do."""

import mlflow_core as ml

customer = ml.Entity("customer")
visits = ml.ParquetSource("visits", path="visits/*.parquet", event_time="visited")
habits = ml.FeatureView("habits", entity=customer, source=visits, features=["amount", "channel", "FURTHER"])
shop = ml.FeatureService("shop", [habits])
'''
_PIPELINE = '''"""Who buys?"""

from retail.specs import shop, visits

import mlflow_core as ml

likely = ml.TrainingPipeline(
    "likely",
    data=ml.Dataset(
        features=shop,
        spine=ml.Spine(visits, where="visited >= TIMESTAMPTZ '{since}'"),
        label=ml.Label("bought"),
        split=ml.TimeSplit(train_until="{until}", validate_until="{then}"),
    ),
    trainer=ml.XGBoost(rounds=3, max_depth=2, seed=1),
    evaluate=["auc"],
    gate={gate},
    schedule=ml.Schedule(when=ml.Drifted({drifted}), at_most_every="0s"),
)
'''


def shop(root: Path) -> Path:
    """Make the shop in a folder, with thirty days of visits."""
    (root / "retail").mkdir(parents=True)
    (root / "mlcore.toml").write_text(_SETTINGS)
    (root / "retail" / "feature_store.yaml").write_text(_STORE)
    (root / "retail" / "specs.py").write_text(_SPECS.replace("FURTHER", "basket"))
    declare(root)
    visits(root, "first", day=0, days=30, seed=1)
    return root


def declare(root: Path, *, since: int = 0, drifted: str = DRIFTED, gate: str = "None") -> None:
    """Declare the pipeline, which trains on twenty days from a day on."""
    days = {"since": since, "until": since + 20, "then": since + 25}
    times = {name: str(np.datetime64(START + day * DAY, "us")) + "+00:00" for name, day in days.items()}
    file = root / "retail_training" / "likely.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(_PIPELINE.format(drifted=drifted, gate=gate, **times))


def visits(
    root: Path, name: str, *, day: int, days: int, seed: int, amount: float = 50.0, web: float = 0.5,
    a_day: int = 60,
) -> None:  # fmt: skip
    """Append visits: so many days, ``a_day`` each, with amounts about one value and a share of them on the web."""
    random = np.random.default_rng(seed)
    n = days * a_day
    amounts = random.normal(amount, 10, n)
    table = pa.table(
        {
            "customer": [f"c{one}" for one in random.integers(0, 200, n)],
            "visited": pa.array(START + day * DAY + np.arange(n) * (DAY // a_day)).cast(
                pa.timestamp("us", "UTC")
            ),
            "amount": amounts,
            "channel": np.where(random.random(n) < web, "web", "shop"),
            "basket": random.integers(1, 30, n),
            "bought": random.random(n) < 1 / (1 + np.exp(-(amounts - amount) / 10)),
        }
    )
    folder = root / "retail" / "visits"
    folder.mkdir(exist_ok=True)
    pq.write_table(table, folder / f"{name}.parquet")


def train(root: Path) -> str:
    """Train in this process; the run."""
    workspace = open_workspace(root)
    try:
        return run_pipeline(workspace, "likely").run_id
    finally:
        workspace.metadata.close()


def apply(root: Path, now_us: int) -> None:
    """Put the schedule in force, due at once."""
    workspace = open_workspace(root)
    try:
        apply_schedules(workspace.project, workspace.metadata, now_us)
    finally:
        workspace.metadata.close()


def measure(root: Path, told: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the drift in this process."""
    workspace = open_workspace(root)
    try:
        return measure_drift(workspace, told, now_us=SystemClock().now_us())
    finally:
        workspace.metadata.close()


def store(folder: Path) -> MetadataStore:
    """The shop's records."""
    url = f"sqlite:///{folder}/metadata.db"
    return MetadataStore(url, FixedClock(time.time_ns() // 1000), Principal("test"), project="shop")


def kept_of(root: Path) -> Schedule:
    """Its schedule, as it stands."""
    with store(root) as kept:
        return kept.get_schedule("likely")


def measured(root: Path) -> int:
    """How often rows were read."""
    file = root / "measured"
    return len(file.read_text().splitlines()) if file.exists() else 0
