"""The weather at the airport of departure, as last reported."""

import mlflow_core as ml
from feature_repo.entities import origin
from feature_repo.sources import weather_reports

weather = ml.FeatureView(
    "weather",
    entity=origin,
    source=weather_reports,
    owner="ops@example.org",
    features=[
        "temp",
        "humid",
        "wind_speed",
        "wind_gust",
        "precip",
        "visib",
        "pressure",
        ml.Agg("precip", "sum", over="6h"),
        ml.Agg("visib", "min", over="6h"),
    ],
    ttl="4h",
    availability=ml.Every("1h", delay="10m"),
    checks=[ml.NullRate("temp", below=0.1), ml.InRange("humid", at_least=0, at_most=100, severity="warn")],
)
