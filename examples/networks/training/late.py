"""Two hours before departure: will this flight arrive more than 15 minutes late? Asked of trees and of two networks."""

from operations.features import flights, sequential, tabular

import mlflow_core as ml


def dataset(features: ml.FeatureService) -> ml.Dataset:
    """The same rows, label and split for every model, so that they can be compared."""
    return ml.Dataset(
        features=features,
        spine=ml.Spine(flights, at="scheduled_departure - interval '2 hours'", columns=["flight_id"]),
        label=ml.Label("arr_delay > 15", known_at="outcome_known", name="late"),
        clock="served",
        split=ml.TimeSplit(train_until="2013-10-01", validate_until="2013-11-01", embargo="1d"),
    )


trees = ml.TrainingPipeline(
    "trees",
    data=dataset(tabular),
    trainer=ml.XGBoost(
        rounds=200,
        early_stopping=20,
        metric="logloss",
        max_depth=6,
        learning_rate=0.1,
        subsample=0.8,
        colsample=0.4,
        min_child_weight=50.0,
        seed=7,
    ),
)

network = ml.TrainingPipeline(
    "network",
    data=dataset(tabular),
    trainer=ml.Torch(
        module=ml.MLP(hidden=(128, 128), numbers="periodic", embedding=8, dropout=0.2),
        epochs=6,
        batch_size=2048,
        learning_rate=2e-3,
        weight_decay=0.05,
        warmup=0.1,
        early_stopping=2,
        seed=7,
    ),
)

recurrent = ml.TrainingPipeline(
    "recurrent",
    data=dataset(sequential),
    trainer=ml.Torch(
        module=ml.GRU(hidden=32, head=(128, 64), dropout=0.2),
        epochs=6,
        batch_size=2048,
        learning_rate=2e-3,
        weight_decay=0.05,
        warmup=0.1,
        early_stopping=2,
        seed=7,
    ),
)
