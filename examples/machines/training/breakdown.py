"""Will a machine break within three days?"""

from machines.features import machine, machine_health, readings

import mlflow_core as ml

breakdown = ml.TrainingPipeline(
    "breakdown",
    data=ml.Dataset(
        features=machine_health,
        spine=ml.Spine(readings, at="read_at + interval '2 hours'"),
        label=ml.Label(aggregate=ml.Agg("broke", "max", over="3d"), entity=machine, name="breaks"),
        split=ml.TimeSplit(train_until="2024-02-20", validate_until="2024-03-01", embargo="1d"),
    ),
    trainer=ml.XGBoost(rounds=60, early_stopping=10, max_depth=3, learning_rate=0.2, seed=1),
    evaluate=["auc", "log_loss"],
    baselines=[ml.Rate()],
    register=ml.Register("breakdown", alias="candidate"),
)
