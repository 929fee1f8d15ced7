"""Rows for every objective of XGBoost, and the plain training that ours is held against: no code of ours but the spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xgboost

from mlflow_core.train.data.training_set import TrainingData
from tests.train.made import write

FEATURES = ("one", "two", "flag", "kind", "three")
KINDS = ("a", "b", "c", "d")


def table(rows: int, seed: int) -> pa.Table:
    """Features with gaps, and a label for each objective."""
    random = np.random.default_rng(seed)
    one, two, three = random.normal(0, 1, (3, rows))
    flag, kind = random.random(rows) < 0.4, random.choice(KINDS, rows)
    signal = one + 0.5 * two * flag + (kind == "c") * 1.5 + 0.3 * np.sin(3 * three)
    noise = random.normal(0, 0.5, rows)
    time = np.exp(0.5 * signal + noise)
    seen = random.random(rows) < 0.7
    query = np.sort(random.integers(0, max(1, rows // 12), rows))
    return pa.table(
        {
            "one": pa.array(np.where(random.random(rows) < 0.1, np.nan, one), from_pandas=True),
            "two": two.astype(np.float32),
            "flag": pa.array(flag.tolist(), pa.bool_()),
            "kind": pa.array([None if u < 0.05 else k for u, k in zip(random.random(rows), kind, strict=True)]),
            "three": three,
            "amount": signal + noise,
            "other": 2 * signal - one + noise,
            "positive": np.exp(signal / 2) + 0.1,
            "share": 1 / (1 + np.exp(-signal)),
            "count": random.poisson(np.exp(np.clip(signal, -3, 2))),
            "binary": signal + noise > 0,
            "second": (one - two + noise > 0).astype(np.int8),
            "class": np.clip(np.round(signal + 1), 0, 2).astype(np.int64),
            "lower": time,
            "upper": np.where(seen, time, np.inf),
            "signed": np.where(seen, time, -time),
            "grade": np.clip(np.round(signal + noise), 0, 4).astype(np.int64),
            "query": pa.array([f"q{number:05d}" for number in query]),
            "heavy": random.gamma(2, 1, rows),
        }
    )  # fmt: skip


def training_set(folder: Path, label: str, *, rows: int = 2000, **more: object) -> TrainingData:
    """Two training shards in uneven row groups, one shard each to validate and test."""
    whole = table(rows, 1)
    parts = {
        "train": [whole.slice(0, rows * 5 // 8), whole.slice(rows * 5 // 8)],
        "validate": [table(rows // 3, 2)],
        "test": [table(rows // 3, 3)],
    }
    return write(folder, parts, row_group_size=317, label=label, features=FEATURES, request=(), **more)


def frame(rows: pa.Table) -> Any:
    """The features as pandas has them."""
    made = rows.select(list(FEATURES)).to_pandas()
    made["kind"] = made["kind"].astype("category").cat.set_categories(list(KINDS))
    made["flag"] = made["flag"].astype(float)
    return made.astype({"one": "float32", "two": "float32", "three": "float32"})


def plain(
    data: TrainingData,
    settings: dict[str, Any],
    columns: dict[str, Any],
    *,
    rounds: int,
    early_stopping: int = 0,
) -> tuple[xgboost.Booster, np.ndarray, dict[str, list[float]]]:
    """Train with ``xgboost.train`` alone; ``columns`` gives XGBoost's fields from a table.

    Returns:
        The booster, its predictions of the test part, and the validation metrics.
    """
    made: dict[str, xgboost.QuantileDMatrix] = {}
    for part in ("train", "validate"):
        rows = data.read(part)
        fields = {name: value(rows) for name, value in columns.items()}
        made[part] = xgboost.QuantileDMatrix(
            frame(rows), enable_categorical=True, ref=made.get("train"), **fields
        )
    log: dict[str, dict[str, list[float]]] = {}
    stop = [xgboost.callback.EarlyStopping(rounds=early_stopping, save_best=True)] if early_stopping else []
    booster = xgboost.train(
        {"tree_method": "hist", "learning_rate": 0.1, **settings},
        made["train"],
        rounds,
        evals=[(made["validate"], "validate")],
        evals_result=log,
        callbacks=stop,
        verbose_eval=False,
    )
    test = xgboost.DMatrix(frame(data.read("test")), enable_categorical=True)
    return booster, booster.predict(test), log["validate"]


def column(name: str) -> Any:
    """A table's column as float64."""
    return lambda rows: rows.column(name).to_numpy(zero_copy_only=False).astype(float)


def sizes(name: str) -> Any:
    """The sizes of the runs of equal values, counted one by one."""

    def counted(rows: pa.Table) -> list[int]:
        found: list[int] = []
        last: object = object()
        for value in rows.column(name).to_pylist():
            if value != last:
                found.append(0)
            found[-1] += 1
            last = value
        return found

    return counted
