"""Two hours before its scheduled departure: will this flight arrive more than 15 minutes late?

A flight that was cancelled or diverted never arrives as planned, neither late nor in time: its label is null, and
the dataset counts how many rows were left out for it.
"""

import mlflow_core as ml
from feature_repo.services import delay_model
from feature_repo.sources import flights

late_arrival = ml.TrainingPipeline(
    "late_arrival",
    description="Flights out of New York that arrive more than 15 minutes late.",
    owner="ops@example.org",
    data=ml.Dataset(
        features=delay_model,
        spine=ml.Spine(flights, at="scheduled_departure - interval '2 hours'"),
        label=ml.Label("arr_delay > 15", known_at="outcome_known", name="late"),
        clock="served",
        split=ml.TimeSplit(train_until="2013-10-01", validate_until="2013-11-01", embargo="1d"),
    ),
    trainer=ml.XGBoost(
        objective="binary:logistic",
        rounds=100,
        early_stopping=15,
        metric="auc",
        max_depth=6,
        learning_rate=0.15,
        subsample=0.8,
        colsample=0.3,
        min_child_weight=50.0,
        l2=5.0,
        max_bin=64,
        seed=7,
    ),
    evaluate=["auc", "log_loss", "brier", "average_precision"],
    slices=["origin", "carrier"],
    baselines=[ml.Rate(), ml.LogisticRegression()],
    gate=ml.Gate(metric="auc", better_than="baselines", at_least={"auc": 0.65}),
    register=ml.Register("late_arrival", alias="champion"),
)
