"""Reports of small trainings, one for each task that has figures of its own."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlflow_core.spec.metric import DEFAULT_METRICS, task_of
from mlflow_core.spec.network import MLP
from mlflow_core.spec.pipeline import Gate
from mlflow_core.spec.trainer import Rate, Sklearn, Torch, XGBoost
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.evaluation.baselines import fit_baseline
from mlflow_core.train.evaluation.contributions import contributions
from mlflow_core.train.evaluation.evaluate import evaluate
from mlflow_core.train.evaluation.findings import Finding
from mlflow_core.train.evaluation.gate import judge
from mlflow_core.train.evaluation.importance import importance
from mlflow_core.train.evaluation.truth import truth_of
from mlflow_core.train.report.contents import PartFacts, Report
from tests.train.made import fit, table, write

TRAINERS = {
    "binary": (XGBoost(rounds=15, seed=1), "label"),
    "multiclass": (XGBoost(objective="multi:softprob", classes=3, rounds=8), "kind"),
    "regression": (XGBoost(objective="reg:squarederror", rounds=15), "amount"),
    "quantile": (XGBoost(objective="reg:quantileerror", quantiles=(0.1, 0.5, 0.9), rounds=15), "amount"),
    "ranking": (XGBoost(objective="rank:ndcg", group="query", rounds=8), "grade"),
    "survival": (XGBoost(objective="survival:aft", bounds=("from", "to"), rounds=8), "from"),
    "network": (
        Torch(
            module=MLP(hidden=(16,), embedding=4),
            epochs=6,
            batch_size=100,
            learning_rate=1e-2,
            device="cpu",
            seed=1,
        ),
        "label",
    ),
    "estimator": (
        Sklearn(
            estimator="sklearn.ensemble:HistGradientBoostingRegressor",
            arguments={"max_iter": 30},
            objective="regression",
        ),
        "amount",
    ),
}
FINDING = Finding("drift", "warning", "test", "Rows differ, by <gust>.", 0.8, 0.6)


def labelled(rows: int, seed: int) -> pa.Table:
    made = table(rows, seed)
    amount = np.nan_to_num(made["amount"].to_numpy())
    lasted = np.exp(np.clip(amount, -20, 90) / 30)
    seen = np.random.default_rng(seed).random(rows) < 0.7
    return (
        made.append_column("kind", pa.array(np.digitize(amount, [20.0, 40.0])))
        .append_column("grade", pa.array(np.digitize(amount, [20.0, 60.0])))
        .append_column("query", pa.array(np.arange(rows) // 8))
        .append_column("from", pa.array(lasted))
        .append_column("to", pa.array(np.where(seen, lasted, np.inf)))
    )


def training_set(folder: Path, label: str) -> TrainingData:
    parts = {p: [labelled(800, n)] for n, p in enumerate(("train", "validate", "test"))}
    return write(folder, parts, label=label)


def report_of(kind: str, folder: Path) -> tuple[Report, TrainingData]:
    """Train, measure and gather."""
    trainer, label = TRAINERS[kind]
    data = training_set(folder / "data", label)
    model = fit(trainer, data, workdir=folder / "work")
    test = data.read("test")
    truth = truth_of(trainer, test, label, outputs=model.outputs)
    predictions = {"late": model.predict(test), "rate": fit_baseline(Rate(), data, trainer).predict(test)}
    metrics = DEFAULT_METRICS[task_of(trainer)]
    times = test["event_timestamp"].cast(pa.int64()).to_numpy()
    found = evaluate(truth, predictions, metrics, test.select(["carrier"]), times=times, count=40)
    report = Report(
        title="late <b>",
        question="Will it be late?",
        model=model,
        evaluation=found,
        y=truth,
        predictions=predictions,
        parts=[
            PartFacts("train", 800, 250 if kind == "binary" else None, 0, 10**15, {"label not known": 3}),
            PartFacts("test", 800, 240 if kind == "binary" else None, 10**15, 2 * 10**15),
        ],
        importance=importance(model, test, truth, metric=metrics[0], rows=200, repeats=1),
        importance_metric=metrics[0],
        clocks=found if kind == "binary" else None,
        gate=judge(Gate(metric=metrics[0], better_than="baselines"), found, baselines=["rate"]),
        examples=test.select(["event_timestamp", "carrier", "delay"]).slice(0, 4),
        facts={"run": "01ABC", "at": datetime.date(2013, 11, 1)},
        contributions=contributions(model, test, rows=100),
        findings=[FINDING],
    )
    return report, data
