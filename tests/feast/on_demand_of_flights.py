"""On-demand features of the flights that tests import by path."""

from __future__ import annotations

import mlflow_core as ml

flights = ml.ParquetSource("flights", path="flights.parquet", event_time="departure")
delays = ml.FeatureView(
    "delays",
    entity=ml.Entity("route", keys=["origin", "dest"]),
    source=flights,
    features=["delay", ml.Agg("delay", "mean", over="3h"), ml.Agg("*", "count", over="3h")],
    ttl="1h",
    availability=ml.Every("1h"),
)


@ml.on_demand(inputs=[delays], request={"distance": float})
def per_mile(x):
    return {"mean_per_mile": x["delay_mean_3h"] / x["distance"], "busy": x["delays_count_3h"] > 1}
