"""Contestants that boost: from Parquet shards to a booster, each as its users would write it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import xgboost
from distributed import Client
from sklearn.metrics import roc_auc_score

from benchmarks.train.alone import Alone
from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.spec import XGBoost
from mlflow_core.train import TrainContext, fit
from mlflow_core.train.data.training_set import TrainingData

__all__ = ["CONTESTANTS", "auc"]

ROUNDS, DEPTH, RATE = 50, 6, 0.1
SETTINGS = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "max_depth": DEPTH,
    "learning_rate": RATE,
    "eval_metric": "logloss",
    "max_bin": 256,
    "seed": 0,
}
Train = Callable[[TrainingData, Path], float]


def auc(booster: xgboost.Booster, data: TrainingData) -> float:
    """The quality, measured in the same way for all and not timed: AUC on the validation part."""
    truth, said = [], []
    for path in data.files("validate"):
        table = pq.read_table(path, columns=[*data.features, "label"])
        matrix = np.column_stack([table.column(name).to_numpy() for name in data.features])
        said.append(booster.predict(xgboost.DMatrix(matrix, feature_names=list(data.features))))
        truth.append(table.column("label").to_numpy())
    return float(roc_auc_score(np.concatenate(truth), np.concatenate(said)))


def _ours(client: Client | None, workers: int, memory: str = "auto") -> Any:
    def train(data: TrainingData, scratch: Path) -> Callable[[], float]:
        trainer = XGBoost(rounds=ROUNDS, max_depth=DEPTH, learning_rate=RATE, workers=workers, memory=memory)
        model = fit(trainer, data, TrainContext(workdir=scratch, client=client))
        booster = xgboost.Booster(model_file=bytearray(model.scorer.ubj))
        return lambda: auc(booster, data)

    return train


@contextmanager
def ours_here() -> Iterator[Any]:
    """One process with the threads of the machine."""
    yield _ours(None, 1)


@contextmanager
def ours_external() -> Iterator[Any]:
    """The same with the binned rows in files."""
    yield _ours(None, 1, "external")


@contextmanager
def ours_on_dask() -> Iterator[Any]:
    """Two ranks on two workers."""
    with open_cluster(ClusterSettings(workers=2, memory="6GiB")) as client:
        yield _ours(client, 2)


@contextmanager
def xgboost_dask() -> Iterator[Any]:
    """XGBoost's Dask interface on a dask.dataframe, on the same two workers."""
    import dask.dataframe as dd
    from xgboost import dask as dxgb

    with open_cluster(ClusterSettings(workers=2, memory="6GiB")) as client:

        def matrix(data: TrainingData, part: str, ref: Any = None) -> Any:
            columns = [*data.features, "label"]
            frame = dd.read_parquet([str(path) for path in data.files(part)], columns=columns).persist()
            return dxgb.DaskQuantileDMatrix(client, frame[list(data.features)], frame["label"], ref=ref)

        def train(data: TrainingData, _: Path) -> Callable[[], float]:
            rows = matrix(data, "train")
            valid = matrix(data, "validate", rows)
            found = dxgb.train(
                client, SETTINGS, rows, num_boost_round=ROUNDS, evals=[(valid, "v")], verbose_eval=False
            )
            return lambda: auc(found["booster"], data)

        yield train


@contextmanager
def pandas_here() -> Iterator[Any]:
    """One process: pandas, then a QuantileDMatrix of the frame."""
    import pandas as pd

    def matrix(data: TrainingData, part: str, ref: Any = None) -> xgboost.QuantileDMatrix:
        columns = [*data.features, "label"]
        frame = pd.concat([pd.read_parquet(path, columns=columns) for path in data.files(part)])
        return xgboost.QuantileDMatrix(frame[list(data.features)], frame["label"], ref=ref)

    def train(data: TrainingData, _: Path) -> Callable[[], float]:
        rows = matrix(data, "train")
        valid = matrix(data, "validate", rows)
        booster = xgboost.train(SETTINGS, rows, ROUNDS, evals=[(valid, "v")], verbose_eval=False)
        return lambda: auc(booster, data)

    yield train


@contextmanager
def alone_here() -> Iterator[Any]:
    """The limit in one process."""
    yield Alone(SETTINGS, ROUNDS, auc)


@contextmanager
def alone_external() -> Iterator[Any]:
    """The limit of external memory."""
    yield Alone(SETTINGS, ROUNDS, auc, in_files=True)


CONTESTANTS = {
    "ours, one process": ours_here,
    "ours, external memory": ours_external,
    "ours, two workers": ours_on_dask,
    "xgboost.dask": xgboost_dask,
    "pandas": pandas_here,
    "XGBoost alone": alone_here,
    "XGBoost alone, in files": alone_external,
}
