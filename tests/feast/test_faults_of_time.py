"""Feast's own store beside ours on rows that are lost, tied, late, out of order or corrected afterwards.

Each test shows Feast's answer first, so that it says when it has lost its point.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feast import BatchFeatureView, FeatureStore, FeatureView, Field, FileSource
from feast.aggregation import Aggregation
from feast.types import Float64, Int64

import mlflow_core as ml
from tests.feast.stock_and_ours import (
    CUSTOMER,
    HOUR,
    MINUTE,
    NOON,
    OURS,
    PACKED,
    STOCK,
    apply_ours,
    close,
    store_in,
)

LATEST = ["orders:amount"]


def versions(folder: Path, rows: list[tuple[object, ...]], *extra: str) -> str:
    """Write orders with the time at which each version came in, and further columns."""
    folder.mkdir(exist_ok=True)
    frame = pd.DataFrame(rows, columns=["customer", "amount", "happened", "created", *extra])
    times = {name: pd.to_datetime(frame[name], utc=True).dt.as_unit("us") for name in ("happened", "created")}
    frame.assign(**times).to_parquet(folder / "orders.parquet", index=False)
    return str(folder / "orders.parquet")


def native(path: str, ttl: timedelta | None = None) -> FeatureView:
    return FeatureView(
        name="orders",
        entities=[CUSTOMER],
        ttl=ttl,
        schema=[Field(name="customer", dtype=Int64), Field(name="amount", dtype=Float64)],
        source=FileSource(
            name="orders_source", path=path, timestamp_field="happened", created_timestamp_column="created"
        ),
    )


def ask(*rows: tuple[int, datetime]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["customer", "event_timestamp"])
    return frame.assign(row=range(len(frame)))


def answers(store: FeatureStore, asked: pd.DataFrame, refs: list[str], **options: bool) -> pd.DataFrame:
    return store.get_historical_features(asked, refs, **options).to_df()


def listed(values: pd.Series) -> list[float | None]:
    return [None if pd.isna(value) else float(value) for value in values]


@pytest.mark.parametrize(
    ("asked", "lost", "truth"),
    [
        (((1, NOON), (2, NOON)), "expired", [1.0, None]),
        (((1, NOON), (3, NOON)), "in the future", [1.0, None]),
        (((1, NOON), (1, NOON)), "asked twice", [1.0, 1.0]),
    ],
    ids=["expired", "future", "twice"],
)
def test_feast_loses_an_entity_row_that_ours_keeps(
    tmp_path: Path, asked: tuple[tuple[int, datetime], ...], lost: str, truth: list[float | None]
) -> None:
    happened = [(1, 1.0, NOON - HOUR), (2, 2.0, NOON - 80 * HOUR), (3, 3.0, NOON + HOUR)]
    path = versions(tmp_path, [(*row, row[2]) for row in happened])
    found = {}
    for name, sections in (("stock", STOCK), ("ours", OURS)):
        store = store_in(tmp_path / name, **sections)
        store.apply([CUSTOMER, native(path, timedelta(days=1))])
        found[name] = answers(store, ask(*asked), LATEST)

    assert len(found["stock"]) == 1, f"Feast keeps a row that is {lost}; this comparison has lost its point"
    assert found["ours"]["row"].tolist() == [0, 1]
    assert listed(found["ours"]["amount"]) == truth


def test_feast_trains_on_another_version_than_it_serves_and_ours_on_the_same(tmp_path: Path) -> None:
    """Versions of one event come in shuffled; the last created is the one that counts."""
    order = np.random.default_rng(11)
    rows = [
        (customer, float(minutes), NOON - HOUR, NOON - int(minutes) * MINUTE)
        for customer in range(40)
        for minutes in order.permutation(np.arange(1, 21))
    ]
    path = versions(tmp_path, rows)
    asked = ask(*[(customer, NOON) for customer in range(40)])
    wrong = {}
    for name, sections in (("stock", STOCK), ("ours", {**OURS, "online_store": PACKED})):
        store = store_in(tmp_path / name, **sections)
        store.apply([CUSTOMER, native(path)])
        store.materialize(NOON - 2 * HOUR, NOON)
        served = store.get_online_features(LATEST, [{"customer": one} for one in range(40)]).to_dict()
        assert served["amount"] == [1.0] * 40, name
        trained = answers(store, asked, LATEST).sort_values("customer")["amount"]
        wrong[name] = int((trained != 1.0).sum())
        if name == "ours":
            close(store)
    assert wrong["stock"] > 0, "Feast orders versions in training too; this comparison has lost its point"
    assert wrong["ours"] == 0


# One customer's orders as they came in: known out of order, a tie, a correction that moves an event, and a delete.
CORRECTED = [
    (1, 5.0, NOON - 4 * HOUR, NOON - 1 * HOUR, "late", False),
    (1, 7.0, NOON - 3 * HOUR, NOON - 3 * HOUR, "plain", False),
    (1, 100.0, NOON - 2 * HOUR, NOON - 2 * HOUR, "moved", False),
    (1, 1.0, NOON - 5 * HOUR, NOON - 90 * MINUTE, "moved", False),
    (1, 10.0, NOON - 150 * MINUTE, NOON - 150 * MINUTE, "tied", False),
    (1, 20.0, NOON - 150 * MINUTE, NOON - 30 * MINUTE, "tied too", False),
    (1, 50.0, NOON - 100 * MINUTE, NOON - 100 * MINUTE, "gone", False),
    (1, 50.0, NOON - 100 * MINUTE, NOON - 80 * MINUTE, "gone", True),
]
SEEN_AT = (NOON - 110 * MINUTE, NOON - 95 * MINUTE, NOON - 85 * MINUTE, NOON - 70 * MINUTE, NOON)
# What was known then, added up by hand over (time - 6 h, time], and the latest of it.
SUMS = [117.0, 167.0, 68.0, 18.0, 43.0]
LAST = [100.0, 50.0, 50.0, 10.0, 20.0]


@pytest.mark.filterwarnings("ignore:Batch feature views are experimental:RuntimeWarning")
def test_feast_has_no_window_over_late_and_corrected_events_and_ours_tells_what_was_known(
    tmp_path: Path,
) -> None:
    asked = ask(*[(1, moment) for moment in SEEN_AT])
    path = versions(tmp_path / "shop", CORRECTED, "id", "deleted")

    stock = store_in(tmp_path / "stock", **STOCK)
    stock.apply([CUSTOMER, native(path)])
    latest = answers(stock, asked, LATEST, filter_by_created_timestamp=True).sort_values("event_timestamp")
    assert listed(latest["amount"])[2:] != LAST[2:], (
        "Feast knows that events are corrected and deleted; this comparison has lost its point"
    )
    windowed = store_in(tmp_path / "windowed", **STOCK)
    name = "sum_amount_21600s"
    view = BatchFeatureView(
        name="orders",
        entities=[CUSTOMER],
        mode="python",
        source=native(path).batch_source,
        schema=[Field(name="customer", dtype=Int64), Field(name=name, dtype=Float64)],
        aggregations=[Aggregation(column="amount", function="sum", time_window=6 * HOUR)],
    )
    windowed.apply([CUSTOMER, view])
    with pytest.raises(KeyError, match=name):
        answers(windowed, asked, [f"orders:{name}"])

    ours = store_in(tmp_path / "ours", **OURS, online_store=PACKED)
    declared = ml.FeatureView(
        "orders",
        entity=ml.Entity("customer"),
        source=ml.ParquetSource(
            "orders", path=path, event_time="happened", known_at="created", event_id="id", deleted="deleted"
        ),
        features=["amount", ml.Agg("amount", "sum", over="6h")],
        availability=ml.Every("30m"),
    )
    apply_ours(ours, tmp_path / "shop", declared)
    wanted = [*LATEST, "orders:amount_sum_6h"]
    found = answers(ours, asked, wanted)
    assert listed(found["amount_sum_6h"]) == SUMS
    assert listed(found["amount"]) == LAST

    ours.materialize(NOON - 10 * HOUR, NOON)
    served = ours.get_online_features(wanted, [{"customer": 1}]).to_dict()
    assert (served["amount"], served["amount_sum_6h"]) == ([LAST[-1]], [SUMS[-1]])
    close(ours)
