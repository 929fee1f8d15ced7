"""A small training set with known structure: numbers, a boolean, a category, nulls, a label that depends on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core import train
from mlflow_core.spec.trainer import Trainer
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.models.model import Model

FEATURES = ("delay", "gust", "late", "carrier", "hour")


def table(rows: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    delay, gust = random.normal(10, 20, rows), random.gamma(2, 4, rows)
    late = random.random(rows) < 0.3
    carrier = random.choice(["UA", "AA", "DL", "B6"], rows)
    hour = random.integers(5, 24, rows)
    logit = 0.05 * delay + 0.1 * (gust - 8) + 0.8 * late + 1.2 * (carrier == "B6") + 0.08 * (hour - 14) - 1.5
    label = random.random(rows) < 1 / (1 + np.exp(-logit))
    times = 1_380_000_000_000_000 + np.sort(random.integers(0, 40 * 86_400_000_000, rows))
    return pa.table(
        {
            "event_timestamp": pa.array(times, pa.timestamp("us", "UTC")),
            "delay": pa.array(np.where(random.random(rows) < 0.1, np.nan, delay), from_pandas=True),
            "gust": gust.astype(np.float32),
            "late": pa.array(late.tolist(), pa.bool_()),
            "carrier": pa.array(
                [None if u < 0.05 else c for u, c in zip(random.random(rows), carrier, strict=True)]
            ),
            "hour": hour,
            "amount": delay * 2 + gust,
            "label": label,
        }
    )


def write(
    folder: Path, parts: dict[str, list[pa.Table]], *, row_group_size: int = 700, **more: object
) -> TrainingData:
    folder.mkdir(parents=True, exist_ok=True)
    shards = {}
    for part, tables in parts.items():
        paths = []
        for number, one in enumerate(tables):
            paths.append(folder / f"{part}-{number}.parquet")
            pq.write_table(one, paths[-1], row_group_size=row_group_size)
        shards[part] = tuple(paths)
    fields = {"label": "label", "features": FEATURES, "request": ("carrier", "hour")} | more
    return TrainingData(shards=shards, **fields)


def training_set(folder: Path, **more: object) -> TrainingData:
    return write(
        folder,
        {
            "train": [table(2000, 1), table(1500, 2)],
            "validate": [table(900, 3)],
            "test": [table(1200, 4)],
        },
        **more,
    )


def fit(trainer: Trainer, data: TrainingData, **context: object) -> Model:
    return train.fit(trainer, data, train.TrainContext(**context))
