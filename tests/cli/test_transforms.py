"""A project with a transform and lists of most frequent values, by the command, each time in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

STORE = """
    project: shop
    provider: local
    entity_key_serialization_version: 3
    registry: {registry_type: sql, path: "sqlite:///registry.db"}
    offline_store: {type: mlflow_core.feast.offline_store.DaskOfflineStore}
    online_store: {type: mlflow_core.feast.online_store.PackedOnlineStore, path: online.db}
    batch_engine: {type: mlflow_core.feast.compute_engine.DaskComputeEngine}
"""
FEATURES = """
    import pyarrow.compute as pc
    import mlflow_core as ml

    @ml.transform
    def doubled(batch):
        return batch.set_column(batch.column_names.index("n"), "n", pc.multiply(batch["n"], 2.0))

    events = ml.ParquetSource("events", path="events.parquet", event_time="t", transform=doubled)
    tops = ml.FeatureView(
        "tops", entity=ml.Entity("shop"), source=events, availability=ml.Every("1h"),
        features=[ml.Agg(name, "top_k(2)", over="5d", name=f"top_{name}") for name in ("n", "word", "flag", "t")],
    )
    service = ml.FeatureService("service", [tops])
"""


@pytest.fixture
def shop(tmp_path):
    repo = tmp_path / "feature_repo"
    repo.mkdir()
    (repo / "__init__.py").touch()
    (repo / "feature_store.yaml").write_text(dedent(STORE))
    (repo / "shop.py").write_text(dedent(FEATURES))
    times = pa.array([0, 3600 * 10**6, 3600 * 10**6], pa.int64()).cast(pa.timestamp("us", "UTC"))
    table = {
        "shop": ["a"] * 3,
        "t": times,
        "n": [1.5, 4.0, 4.0],
        "word": ["", "x", ""],
        "flag": [True, True, False],
    }
    pq.write_table(pa.table(table), repo / "events.parquet")
    return tmp_path


def mlcore(root: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mlflow_core.cli", "--root", str(root), *words],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_a_transform_makes_is_materialised_and_lists_come_back_in_their_types(shop):
    assert "source events" in mlcore(shop, "apply")
    mlcore(shop, "materialize", "--to", "1970-01-02T00:00Z", "--clock", "1970-01-02T00:00Z")
    told = mlcore(shop, "features", "get", "service", "--at", "1970-01-02T00:00Z", "shop=a")
    shown = {line.split()[0]: line for line in told.splitlines() if line.startswith("top_")}

    assert "[8, 3]" in shown["top_n"]
    assert "[, x]" in shown["top_word"]
    assert "[True, False]" in shown["top_flag"]
    assert "[1970-01-01T01:00:00Z," in shown["top_t"]
