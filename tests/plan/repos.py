"""Small repositories for the tests of this room: files from text, and a flights table to check them against."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core.plan.load import load_project
from mlflow_core.plan.project import Project

HEAD = "import mlflow_core as ml\n"
ENTITIES = HEAD + 'carrier = ml.Entity("carrier")\nroute = ml.Entity("route", keys=["origin", "dest"])\n'
SOURCES = HEAD + dedent(
    """
    flights = ml.ParquetSource(
        "flights", path="data/flights.parquet", event_time="departure", known_at="known", event_id="id"
    )
    """
)
VIEWS = HEAD + dedent(
    """
    from feature_repo.entities import carrier
    from feature_repo.sources import flights

    delays = ml.FeatureView(
        "delays", entity=carrier, source=flights, columns={"late": "delay > 15"},
        features=["delay", ml.Agg("late", "mean", over="24h"), ml.Agg("*", "count", over="3h", where="NOT late")],
        availability=ml.Every("1h", delay="10m"),
    )

    @ml.on_demand(inputs=[delays[["delay"]]], request={"distance": float})
    def speed(x):
        return {"per_mile": x["delay"] / x["distance"]}

    model = ml.FeatureService("model", [delays, speed])
    """
)
PIPELINE = HEAD + dedent(
    """
    from feature_repo.views import flights, model

    late = ml.TrainingPipeline(
        "late",
        data=ml.Dataset(
            features=model,
            spine=ml.Spine(flights, at="departure - INTERVAL '2 hours'", where="delay IS NOT NULL", columns=["dest"]),
            label=ml.Label("delay > 15", known_at="known"),
            split=ml.TimeSplit(train_until="2013-02-01", validate_until="2013-03-01"),
        ),
        trainer=ml.XGBoost(rounds=5),
        slices=["origin"],
        baselines=[ml.LogisticRegression(columns=["distance", "delay"])],
    )
    """
)
GOOD = {
    "feature_repo/entities.py": ENTITIES,
    "feature_repo/sources.py": SOURCES,
    "feature_repo/views.py": VIEWS,
    "pipelines/late.py": PIPELINE,
}


def write(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def write_data(root: Path) -> None:
    day = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
    table = pa.table(
        {
            "id": [1, 2],
            "departure": [day, day],
            "known": [day, day],
            "carrier": ["UA", "DL"],
            "origin": ["EWR", "JFK"],
            "dest": ["BOS", "ORD"],
            "delay": [1.0, 20.0],
            "distance": [100.0, 719.0],
            "codes": [["a"], ["b"]],
            "gate": pa.array([{"x": 1}, None]),
        }
    )
    (root / "feature_repo/data").mkdir(parents=True, exist_ok=True)
    pq.write_table(table, root / "feature_repo/data/flights.parquet")


def good(root: Path, changed: dict[str, str] | None = None) -> Path:
    """Write the good repository with its data, some files changed."""
    write(root, {**GOOD, **(changed or {})})
    write_data(root)
    return root


def load(root: Path) -> Project:
    return load_project(root, name="test", feature_repo="feature_repo", pipelines="pipelines")


Change = Callable[[str], str]
