"""How a machine has been doing."""

import mlflow_core as ml

machine = ml.Entity("machine")

readings = ml.ParquetSource("readings", path="data/readings.parquet", event_time="read_at")

health = ml.FeatureView(
    "health",
    entity=machine,
    source=readings,
    features=[
        "temperature",
        ml.Agg("vibration", ["mean", "max"], over="3d"),
        ml.Agg("broke", "sum", over="14d", name="breakdowns_14d"),
    ],
    availability=ml.Every("1h", delay="5m"),
    checks=[ml.InRange("temperature", at_least=0, at_most=150)],
)

machine_health = ml.FeatureService("machine_health", [health])
