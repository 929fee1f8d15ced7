"""What ``mlcore features`` tells of our declarations and of Feast's own views, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.cli.boundary import run
from mlflow_core.config.times import parse_time

_STORE = """\
project: stalls
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

_OURS = """\
import mlflow_core as ml

stall = ml.Entity("stall", keys=["town", "number"])
sales = ml.ParquetSource("sales", path="data/sales.parquet", event_time="sold")
takings = ml.FeatureView(
    "takings", entity=stall, source=sales, owner="market@example.org", ttl="4h", columns={"dear": "amount > 9"},
    features=["dear", ml.Agg("amount", "sum", over="1d")],
    availability=ml.Every("1h", delay="10m"),
    checks=[
        ml.NullRate("dear", below=0.1),
        ml.InRange("amount_sum_1d", at_least=0, at_most=100, severity="warn"),
        ml.InRange("amount_sum_1d", at_most=1e6),
    ],
)


@ml.on_demand(inputs=[takings[["dear"]]], request={"rain": float})
def weathered(x):
    return {"wet": x["rain"] > 1.0}
"""

_THEIRS = """\
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

porter = Entity(name="porter", value_type=ValueType.INT64)
walks = FileSource(name="walks", path="data/walks.parquet", timestamp_field="t")
porters = FeatureView(
    name="porters", entities=[porter], source=walks, schema=[Field(name="speed", dtype=Float64)], owner="feast@example.org"
)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    package = "stalls_repo"
    repo = tmp_path / package
    (repo / "data").mkdir(parents=True)
    (tmp_path / "mlcore.toml").write_text(f'[project]\nname = "stalls"\nfeature_repo = "{package}"\n')
    for name, text in {
        "__init__.py": "",
        "feature_store.yaml": _STORE,
        "ours.py": _OURS,
        "theirs.py": _THEIRS,
    }.items():
        (repo / name).write_text(text)
    sold = pa.array([parse_time("2024-01-01T09:00Z")], pa.timestamp("us", tz="UTC"))
    pq.write_table(
        pa.table({"town": ["Bern"], "number": [3], "sold": sold, "amount": [9.5]}),
        repo / "data" / "sales.parquet",
    )
    pq.write_table(pa.table({"porter": [1], "t": sold, "speed": [1.5]}), repo / "data" / "walks.parquet")
    return tmp_path


@pytest.fixture
def mlcore(root: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def call(*words: str) -> str:
        capsys.readouterr()
        code = run(["--root", str(root), *words])
        told = capsys.readouterr()
        assert code == 0, told.err
        return told.out

    return call


def test_a_view_is_shown_in_words(mlcore: Callable[..., str]) -> None:
    lines = mlcore("features", "show", "takings").splitlines()

    head = lines[: lines.index("")]
    assert head[:11] == [
        "view: takings",
        "entity: stall (keys town, number)",
        "source: sales (data/sales.parquet)",
        "event time: sold",
        "availability: every 1h, usable 10m later",
        "ttl: latest values up to 4h old",
        "column: dear = amount > 9",
        "check: nulls of dear below 0.1",
        "check: amount_sum_1d from 0 to 100, else a warning",
        "check: amount_sum_1d at most 1,000,000",
        "owner: market@example.org",
    ]
    assert head[11].startswith("declared at:")
    assert head[-1].endswith("stalls_repo/ours.py:5")
    assert max(len(line) for line in lines[lines.index("") :]) <= 80


def test_what_is_computed_on_demand_says_what_it_reads(mlcore: Callable[..., str]) -> None:
    lines = mlcore("features", "show", "weathered").splitlines()

    assert "on demand: weathered" in lines
    assert "reads: dear of takings" in lines
    assert "request: rain (float64)" in lines


def test_feasts_own_views_are_listed_and_marked(mlcore: Callable[..., str]) -> None:
    rows = {row["name"]: row for row in json.loads(mlcore("--json", "features", "list"))}
    text = mlcore("features", "list")

    assert [name for name, row in rows.items() if row["native"]] == ["speed"]
    assert (rows["speed"]["type"], rows["speed"]["entity"], rows["speed"]["source"]) == (
        "float64",
        "porter",
        "walks",
    )
    assert "porters  (native Feast view, of porter, from walks, owner feast@example.org)" in text.splitlines()
    assert "takings  (of stall, from sales, owner market@example.org)" in text.splitlines()
    shown = mlcore("features", "show", "porters")
    assert "native Feast view" in shown
    assert "speed" in shown
