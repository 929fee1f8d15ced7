"""The limit: XGBoost bins and boosts the same rows, which it finds in memory as float32, with edges that it need not look for.

Nothing is read from Parquet, decoded, sent or told. The rows lie in a file that was just written, so in the system's
memory, and are mapped a batch at a time: nothing is copied, and what the process takes is what XGBoost makes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost

from mlflow_core.train.data.training_set import TrainingData

__all__ = ["Alone"]

BATCH_BYTES = 8 << 20
BINS = 256
SAMPLE, RUN = 65_536, 64


@dataclass(frozen=True)
class _Held:
    """Rows of a part: (rows, features) float32 in a file, and their labels."""

    path: Path
    labels: np.ndarray
    features: int


class Alone:
    """A contestant who is handed its rows before time counts.

    Args:
        settings: XGBoost's.
        rounds: How many trees.
        quality: Measures the booster.
        in_files: Whether XGBoost keeps the binned rows in files.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        rounds: int,
        quality: Callable[[xgboost.Booster, TrainingData], float],
        *,
        in_files: bool = False,
    ) -> None:
        self._settings, self._rounds, self._quality, self._in_files = settings, rounds, quality, in_files
        self._held: dict[str, _Held] = {}
        self._edges: xgboost.DMatrix | None = None

    def hold(self, data: TrainingData, scratch: Path) -> None:
        """Write the rows to a file and look for the edges: what the limit does not count."""
        scratch.mkdir(parents=True, exist_ok=True)
        self._held = {part: _written(data, part, scratch / f"{part}.f32") for part in ("train", "validate")}
        quantiles = np.quantile(_sample(self._held["train"]), np.linspace(0, 1, BINS + 1), axis=0)
        self._edges = xgboost.QuantileDMatrix(
            quantiles.astype(np.float32), max_bin=BINS, feature_names=list(data.features)
        )

    def __call__(self, data: TrainingData, scratch: Path) -> Callable[[], float]:
        """Bin and boost what is held."""
        train = self._binned("train", self._edges, data, scratch)
        valid = self._binned("validate", train, data, scratch)
        booster = xgboost.train(
            dict(self._settings), train, self._rounds, evals=[(valid, "v")], verbose_eval=False
        )
        return lambda: self._quality(booster, data)

    def _binned(self, part: str, edges: Any, data: TrainingData, scratch: Path) -> xgboost.DMatrix:
        kind = xgboost.ExtMemQuantileDMatrix if self._in_files else xgboost.QuantileDMatrix
        cache = scratch / f"{part}-bins" if self._in_files else None
        return kind(_Batches(self._held[part], list(data.features), cache), ref=edges, max_bin=BINS)


class _Batches(xgboost.DataIter):
    """Rows of a file, mapped a batch at a time."""

    def __init__(self, held: _Held, names: list[str], cache: Path | None) -> None:
        self._held, self._names, self._at = held, names, 0
        self._size = max(1024, BATCH_BYTES // (4 * held.features))
        super().__init__(cache_prefix=None if cache is None else str(cache), release_data=True)

    def next(self, input_data: Callable[..., Any]) -> bool:
        labels = self._held.labels[self._at : self._at + self._size]
        if not len(labels):
            return False
        shape, offset = (len(labels), self._held.features), self._at * self._held.features * 4
        rows = np.asarray(np.memmap(self._held.path, np.float32, "r", offset, shape))
        input_data(data=rows, label=labels, feature_names=self._names)
        self._at += len(labels)
        return True

    def reset(self) -> None:
        self._at = 0


def _written(data: TrainingData, part: str, path: Path) -> _Held:
    labels = []
    with path.open("wb") as file:
        for shard in data.files(part):
            for batch in pq.ParquetFile(shard).iter_batches(columns=[*data.features, "label"]):
                columns = [batch.column(name).to_numpy() for name in data.features]
                np.column_stack(columns).astype(np.float32, copy=False).tofile(file)
                labels.append(batch.column("label").to_numpy(zero_copy_only=False).astype(np.float32))
    pa.default_memory_pool().release_unused()
    return _Held(path, np.concatenate(labels), len(data.features))


def _sample(held: _Held) -> np.ndarray:
    """Runs of rows from all over the file, (some ``SAMPLE``, features); read, because what is mapped counts as memory."""
    rows, runs = len(held.labels), max(1, min(SAMPLE, len(held.labels)) // RUN)
    return np.concatenate(
        [
            np.fromfile(
                held.path, np.float32, RUN * held.features, offset=4 * held.features * (rows * run // runs)
            ).reshape(-1, held.features)
            for run in range(runs)
        ]
    )
