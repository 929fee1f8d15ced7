"""The trainers that the contract is held against, and rows that have a label for each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core import train
from mlflow_core.spec.network import MLP, Autoencoder
from mlflow_core.spec.trainer import Family, Sklearn, Torch, Trainer, XGBoost
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.models.model import Model
from tests.train.made import table

__all__ = ["CASES", "LABELLED", "Case", "fitted", "rows_of", "truth_of"]


@dataclass(frozen=True)
class Case:
    """A trainer, what its label is, and what its model must be."""

    trainer: Trainer
    label: str
    task: str
    outputs: int = 0
    exports: bool = True


NETWORK = MLP(hidden=(32,), numbers="plain", dropout=0.0)
FAST = {"epochs": 4, "batch_size": 256, "learning_rate": 1e-2, "device": "cpu", "seed": 3}
QUANTILES = (0.1, 0.5, 0.9)
LINEAR, TREES = "sklearn.linear_model:", "sklearn.ensemble:"


def _xgboost(**fields: object) -> XGBoost:
    return XGBoost(**({"rounds": 10, "seed": 3} | fields))


def _torch(**fields: object) -> Torch:
    return Torch(**({"module": NETWORK} | FAST | fields))


CASES = {
    "xgboost binary": Case(_xgboost(rounds=20), "label", "classification"),
    "xgboost classes": Case(
        _xgboost(objective="multi:softprob", classes=3), "late_class", "multiclass", outputs=3
    ),
    "xgboost quantity": Case(_xgboost(objective="reg:squarederror"), "amount", "regression"),
    "xgboost quantiles": Case(
        _xgboost(objective="reg:quantileerror", quantiles=QUANTILES), "amount", "quantile", outputs=3
    ),
    "xgboost ranking": Case(_xgboost(objective="rank:ndcg", group="query"), "grade", "ranking"),
    "xgboost survival": Case(
        _xgboost(objective="survival:aft", bounds=("lower", "upper"), rounds=30), "lower", "survival"
    ),
    "xgboost hazards": Case(_xgboost(objective="survival:cox"), "signed", "survival"),
    "xgboost targets": Case(
        _xgboost(objective="reg:squarederror", targets=("other",)), "amount", "regression", outputs=2
    ),
    "torch binary": Case(_torch(), "label", "classification"),
    "torch classes": Case(_torch(objective="multiclass", classes=3), "late_class", "multiclass", outputs=3),
    "torch quantity": Case(_torch(objective="regression"), "amount", "regression"),
    "torch quantiles": Case(
        _torch(objective="quantile", quantiles=QUANTILES), "amount", "quantile", outputs=3
    ),
    "torch unusual rows": Case(
        _torch(module=Autoencoder(hidden=(16,), bottleneck=3, dropout=0.0), objective="reconstruction"),
        "",
        "anomaly",
    ),
    "torch module of a user": Case(
        _torch(module="tests.train.torch.nets:Linear", arguments={"normed": True}, learning_rate=0.1),
        "label",
        "classification",
    ),
    "sklearn binary": Case(
        Sklearn(estimator=LINEAR + "LogisticRegression", seed=3), "label", "classification"
    ),
    "sklearn classes": Case(
        Sklearn(
            estimator=TREES + "HistGradientBoostingClassifier",
            arguments={"max_iter": 10},
            objective="multiclass",
            seed=3,
        ),
        "late_class",
        "multiclass",
        outputs=3,
    ),
    "sklearn quantity": Case(
        Sklearn(
            estimator=TREES + "RandomForestRegressor", arguments={"n_estimators": 10}, objective="regression"
        ),
        "amount",
        "regression",
    ),
    "sklearn unusual rows": Case(
        Sklearn(estimator=TREES + "IsolationForest", objective="anomaly", seed=3), "", "anomaly"
    ),
    "family of xgboost": Case(
        Family(trainer=_xgboost(), by=("carrier",), least_rows=100), "label", "classification", exports=False
    ),
    "family of torch": Case(
        Family(trainer=_torch(objective="regression"), by=("late",), least_rows=100),
        "amount",
        "regression",
        exports=False,
    ),
    "family of sklearn": Case(
        Family(
            trainer=Sklearn(estimator=LINEAR + "LogisticRegression"), by=("late", "carrier"), least_rows=60
        ),
        "label",
        "classification",
        exports=False,
    ),
}
LABELLED = [name for name, case in CASES.items() if case.label]


def rows_of(rows: int, seed: int) -> pa.Table:
    """Rows with the five features of ``tests.train.made``, and a label for each task."""
    made, random = table(rows, seed), np.random.default_rng(1000 + seed)
    delay = np.nan_to_num(made["delay"].to_numpy(), nan=10.0)
    gust, amount = made["gust"].to_numpy().astype(float), made["amount"].to_numpy()
    time = np.exp(0.05 * delay + 0.05 * gust + random.normal(0, 0.2, rows))
    seen = random.random(rows) < 0.7
    further = {
        "late_class": np.digitize(delay, [0.0, 20.0]),
        "other": gust - 0.1 * delay,
        "query": [f"{seed}-{number:04d}" for number in np.sort(random.integers(0, max(1, rows // 12), rows))],
        "grade": np.digitize(amount, [-10.0, 20.0, 45.0, 70.0]),
        "lower": time,
        "upper": np.where(seen, time, np.inf),
        "signed": np.where(seen, time, -time),
    }
    for name, values in further.items():
        made = made.append_column(name, pa.array(values, pa.string() if name == "query" else None))
    return made


def truth_of(case: Case, rows: pa.Table) -> NDArray[np.float64]:
    """The label of rows; of unusual rows how far the delay is from its mean."""
    if case.task == "anomaly":
        return np.abs(np.nan_to_num(rows["delay"].to_numpy(), nan=10.0) - 10.0)
    return rows[case.label].to_numpy().astype(float)


def fitted(case: Case, data: TrainingData, folder: Path) -> Model:
    """The case's model, trained in this process."""
    return train.fit(case.trainer, replace(data, label=case.label), train.TrainContext(workdir=folder))
