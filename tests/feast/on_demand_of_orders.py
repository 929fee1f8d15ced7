"""A view of orders and an on-demand feature of it that tests import by path."""

from __future__ import annotations

import mlflow_core as ml

orders = ml.FeatureView(
    "orders",
    entity=ml.Entity("customer"),
    source=ml.ParquetSource("orders", path="orders.parquet", event_time="happened"),
    features=["amount"],
)


@ml.on_demand(inputs=[orders])
def doubled(x):
    return {"twice": x["amount"] * 2}
