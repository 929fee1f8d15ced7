"""On-demand features that tests import by path."""

from __future__ import annotations

import numpy as np

import mlflow_core as ml
from mlflow_core.spec import Agg, Entity, Every, FeatureView, ParquetSource

SOURCE = ParquetSource("flights", path="flights.parquet", event_time="departure")
DELAYS = FeatureView(
    "delays",
    entity=Entity("carrier"),
    source=SOURCE,
    features=["delay", "note", Agg("delay", ["mean"], over="3h"), Agg("*", "count", over="3h")],
    ttl="1h",
    availability=Every("1h"),
)


@ml.on_demand(inputs=[DELAYS], request={"distance": float, "departure": ml.Timestamp})
def request_features(x):
    return {
        "per_mile": x["delay_mean_3h"] / x["distance"],
        "hour": ml.hour(x["departure"]),
        "flown": x["delays_count_3h"].astype(np.int64),
    }
