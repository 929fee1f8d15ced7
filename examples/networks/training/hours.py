"""Is this an unusual hour at an airport? An autoencoder that has seen only what hours are like, judged by what followed."""

from operations.features import departures, hourly, origin, weather_reports

import mlflow_core as ml

unusual_hour = ml.TrainingPipeline(
    "unusual_hour",
    data=ml.Dataset(
        features=hourly,
        spine=ml.Spine(weather_reports),
        label=ml.Label(
            aggregate=ml.Agg("badly", "max", over="3h"),
            source=departures,
            entity=origin,
            columns={"badly": "cast(cancelled or dep_delay > 180 as int)"},
            name="trouble",
        ),
        clock="served",
        split=ml.TimeSplit(train_until="2013-10-01", validate_until="2013-11-01", embargo="1d"),
    ),
    trainer=ml.Torch(
        module=ml.Autoencoder(hidden=(32, 16), bottleneck=4),
        objective="reconstruction",
        epochs=30,
        batch_size=256,
        early_stopping=5,
        seed=7,
    ),
    evaluate=["auc", "average_precision"],
)
