"""Rows as bins: edges that all ranks share, and the binned rows of one rank, in memory or in files.

The edges of a training part of up to 200,000 rows are those that XGBoost finds for all its rows; of a greater one, the
quantiles of about so many rows from all over it (``edges``), so that neither its beginning nor its end decides. Each
rank works them out for itself from the same rows: nothing has to travel, and a gang that shrinks keeps its edges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xgboost
from numpy.typing import NDArray

from mlflow_core.train.data.matrix import StoredMatrix
from mlflow_core.train.data.preprocess import Preprocessing
from mlflow_core.train.xgboost.batches import Batches, Rows
from mlflow_core.train.xgboost.columns import Columns
from mlflow_core.train.xgboost.edges import drawn, separators

__all__ = ["SAMPLE_ROWS", "Binned", "Binning", "bytes_in_memory"]

SAMPLE_ROWS: Final = 200_000
"""Rows that edges are taken from: 256 bins have some 780 each, and a million rows gain nothing that can be measured."""

_DRAWN_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class Binned:
    """The rows of a rank.

    Args:
        train: Its training rows.
        validate: Its validation rows, with the same edges.
    """

    train: xgboost.DMatrix
    validate: xgboost.DMatrix

    def free(self) -> None:
        """Give memory and files back now: where an error's traceback keeps the objects, they would outlive their folder."""
        for matrix in (self.validate, self.train):
            matrix.__del__()


class Binning:
    """How rows become bins.

    Args:
        preprocessing: How columns become numbers.
        columns: What is read beside the features.
        max_bin: Bins of a feature.
        threads: How many threads it may use.
        folder: Where the binned rows are kept as files; None keeps them in memory.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        columns: Columns,
        *,
        max_bin: int,
        threads: int,
        folder: Path | None = None,
    ) -> None:
        self._preprocessing, self._columns, self._folder = preprocessing, columns, folder
        self._max_bin, self._threads = max_bin, threads
        self._settings = {"max_bin": max_bin, "nthread": threads, "enable_categorical": True}

    def edges(self, matrix: StoredMatrix) -> xgboost.DMatrix:
        """Find the edges of the whole training part, the same ones on every rank.

        It must not be called among ranks that talk to each other: XGBoost would join their samples.

        Args:
            matrix: The training part's.
        """
        if matrix.rows <= SAMPLE_ROWS:
            every = _Unlabelled(Rows(matrix, 0, matrix.rows), self._preprocessing, self._columns)
            return xgboost.QuantileDMatrix(every, **self._settings)
        values, last = self._separators(matrix), _last_categories(self._preprocessing)
        return xgboost.QuantileDMatrix(
            np.vstack([np.where(np.isnan(last), values, np.nan), last]),
            feature_names=list(self._preprocessing.columns),
            feature_types=self._preprocessing.xgboost_types,
            **self._settings,
        )

    def _separators(self, matrix: StoredMatrix) -> NDArray[np.float32]:
        """Some features after others, so that of a wide matrix not all that is drawn is held at once."""
        features = self._preprocessing.width
        beside = drawn(matrix, SAMPLE_ROWS, slice(features, None)) if self._columns.weighs else None
        weights = None if beside is None else self._columns.arrays(beside)["weight"]
        at_once = max(1, _DRAWN_BYTES // (4 * SAMPLE_ROWS))
        some = (slice(first, min(first + at_once, features)) for first in range(0, features, at_once))
        return np.hstack(
            [
                separators(drawn(matrix, SAMPLE_ROWS, own), weights, self._max_bin, threads=self._threads)
                for own in some
            ]
        )

    def binned(self, train: Rows, validate: Rows, edges: xgboost.DMatrix | None) -> Binned:
        """Bin a rank's rows.

        Args:
            train: Its training rows.
            validate: Its validation rows.
            edges: The edges; None takes them from the training rows.
        """
        of_train = self._matrix(train, edges, "train")
        return Binned(of_train, self._matrix(validate, edges or of_train, "validate"))

    def _matrix(self, rows: Rows, edges: xgboost.DMatrix | None, name: str) -> xgboost.DMatrix:
        cache = None if self._folder is None else self._folder / name
        batches = Batches(rows, self._preprocessing, self._columns, cache=cache)
        kind = xgboost.QuantileDMatrix if cache is None else xgboost.ExtMemQuantileDMatrix
        return kind(batches, ref=edges, **self._settings)


def bytes_in_memory(rows: int, width: int, max_bin: int, outputs: int) -> int:
    """About how much memory binned rows take while they are trained on.

    Args:
        rows: How many.
        width: Columns of the matrix.
        max_bin: Bins of a feature.
        outputs: Values that the trees give for each row.
    """
    per_value = 2 * (1 if max_bin <= 256 else 2)  # XGBoost keeps the bins by row and by column
    return rows * (width * per_value + 24 + 16 * max(1, outputs))


class _Unlabelled(Batches):
    """Rows without their labels, and one row more, that has the last category of each feature."""

    _ended = False

    def next(self, input_data: Callable[..., Any]) -> bool:
        if super().next(lambda **batch: input_data(**_unlabelled(batch))):
            return True
        if self._ended:
            return False
        self._ended = True
        input_data(
            data=_last_categories(self._preprocessing),
            feature_names=list(self._preprocessing.columns),
            feature_types=self._preprocessing.xgboost_types,
            **({"weight": np.ones(1, dtype=np.float32)} if self._columns.weighs else {}),
        )
        return True

    def reset(self) -> None:
        self._ended = False
        super().reset()


def _unlabelled(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if name not in _LABELS}


def _last_categories(preprocessing: Preprocessing) -> NDArray[np.float32]:
    """A row that has the last category of each feature, (1, width), and NaN elsewhere.

    XGBoost makes a bin for each category up to the greatest it meets, which the rows that edges are taken from may lack.
    """
    row = np.full((1, preprocessing.width), np.nan, dtype=np.float32)
    for feature in preprocessing.features:
        if feature.kind == "category" and feature.categories:
            row[:, preprocessing.slices[feature.name]] = len(feature.categories) - 1
    return row


_LABELS: Final = ("label", "label_lower_bound", "label_upper_bound")
