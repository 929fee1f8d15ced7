"""The shop with views that are pushed to: Feast's own, with a push source, and tokens of those who may."""

from __future__ import annotations

from pathlib import Path

from mlflow_core.feast.registry import open_store
from tests.serve.shop import make_project, mlcore

TOKEN = "till-42-may-push-here"
OTHER = "another-token-of-somebody"
SOURCE = "live_profiles"
BEARER = {"authorization": f"Bearer {TOKEN}"}
ARROW = "application/vnd.apache.arrow.stream"

_PUSHED = """

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource
from feast.types import Array, Float64, Int64, String, UnixTimestamp
from feast.value_type import ValueType

till = Entity(name="till", join_keys=["till_id"], value_type=ValueType.INT64)
till_file = FileSource(
    name="till_file", path="data/tills.parquet", timestamp_field="at", created_timestamp_column="made",
    field_mapping={"shop_rating": "rating"},
)
live = PushSource(name="live_profiles", batch_source=till_file)
till_state = FeatureView(
    name="till_state", entities=[till], source=live, ttl=timedelta(days=2),
    schema=[
        Field(name="till_id", dtype=Int64), Field(name="rating", dtype=Float64), Field(name="clerk", dtype=String),
        Field(name="items", dtype=Array(Int64)), Field(name="opened", dtype=UnixTimestamp),
    ],
)
till_clerk = FeatureView(
    name="till_clerk", entities=[till], source=live,
    schema=[Field(name="till_id", dtype=Int64), Field(name="clerk", dtype=String)],
)
tills = FeatureService(name="tills", features=[till_state])
clerks = FeatureService(name="clerks", features=[till_clerk])
"""


def pushed_project(
    root: Path, package: str, *, tokens: bool = True, store: str = "  path: data/online.db\n"
) -> Path:
    """Write and apply the project; nothing is materialised.

    Args:
        root: Where.
        package: The name of its feature repository.
        tokens: Whether somebody may write.
        store: The lines of ``feature_store.yaml`` that say where the online store is.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tests.serve.shop import TIME, at

    make_project(root, package)
    repo = root / package
    config = repo / "feature_store.yaml"
    config.write_text(config.read_text().replace("  path: data/online.db\n", store))
    rows = {
        "till_id": pa.array([1], pa.int64()),
        "shop_rating": [1.0],
        "clerk": ["ann"],
        "items": pa.array([[1]], pa.list_(pa.int64())),
        "opened": pa.array([at(1, 0)], TIME),
        "at": pa.array([at(1, 0)], TIME),
        "made": pa.array([at(1, 0)], TIME),
    }
    pq.write_table(pa.table(rows), repo / "data" / "tills.parquet")
    with (repo / "shop.py").open("a") as file:
        file.write(_PUSHED)
    (root / "token").write_text(TOKEN + "\n")
    (root / "other").write_text(OTHER + "\n")
    if tokens:
        with (root / "mlcore.toml").open("a") as settings:
            settings.write('[serve.tokens]\nops = "${file:token}"\n"audit@example.org" = "${file:other}"\n')
    assert mlcore(root, "apply") == 0
    return root


def windows_are_pushed_to(root: Path, package: str) -> None:
    """Give a view of ours, which has windows, the push source as its stream source, as only Feast's API can."""
    store = open_store(root / package)
    view = store.get_feature_view("spending")
    view.stream_source = store.get_data_source(SOURCE)
    store.registry.apply_feature_view(view, store.project)


def row(till: object = 1, **values: object) -> dict[str, object]:
    """A row of the push source; an hour before the tests' now."""
    return {
        "till_id": till,
        "shop_rating": 4.5,
        "clerk": "bob",
        "items": [3, 1],
        "opened": "2024-01-10T08:00:00Z",
        "at": "2024-01-10T09:30:00Z",
        "made": "2024-01-10T09:30:01Z",
        **values,
    }
