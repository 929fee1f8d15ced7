"""Rows as bins: edges that all ranks share, and the binned rows of one rank, in memory or in files.

The edges of a training part of up to 200,000 rows are those of all its rows; of a greater one, those of about so many
rows that are spread evenly over all of it, so that neither its beginning nor its end decides. Each rank works them out
for itself from the same rows: nothing has to travel, and a gang that shrinks keeps its edges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xgboost

from mlflow_core.train.data.pieces import Piece
from mlflow_core.train.data.preprocess import Preprocessing
from mlflow_core.train.xgboost.batches import Batches, Rows
from mlflow_core.train.xgboost.columns import Columns

__all__ = ["SAMPLE_ROWS", "Binned", "Binning", "bytes_in_memory", "sample"]

SAMPLE_ROWS: Final = 200_000
"""Rows that edges are taken from: 256 bins have some 780 each, and a million rows gain nothing that can be measured."""

_READ_TIMES: Final = 4  # so many times the sample's rows are read, to spread it over more row groups
_LEAST_GROUPS: Final = 16


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
        self._settings = {"max_bin": max_bin, "nthread": threads, "enable_categorical": True}

    def edges(self, pieces: Sequence[Piece]) -> xgboost.DMatrix:
        """Find the edges of the whole training part, the same ones on every rank that is given the same pieces.

        It must not be called among ranks that talk to each other: XGBoost would join their samples.

        Args:
            pieces: The training part's.
        """
        batches = _Sample(sample(pieces), self._preprocessing, self._columns)
        return xgboost.QuantileDMatrix(batches, **self._settings)

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


def sample(pieces: Sequence[Piece]) -> Rows:
    """Choose the rows that edges are taken from: all of a small part; else row groups at even distances, and of
    these rows at even distances.

    Args:
        pieces: The row groups of the training part, in order.
    """
    total = sum(piece.rows for piece in pieces)
    if total <= SAMPLE_ROWS:
        return Rows(tuple(pieces))
    groups = max(_LEAST_GROUPS, -(-_READ_TIMES * SAMPLE_ROWS * len(pieces) // total))
    chosen = np.unique(np.linspace(0, len(pieces) - 1, min(groups, len(pieces))).round().astype(int))
    read = tuple(pieces[index] for index in chosen)
    return Rows(read, every=-(-sum(piece.rows for piece in read) // SAMPLE_ROWS))


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


class _Sample(Batches):
    """Rows without their labels, and one row more, that has the last category of each feature.

    XGBoost makes a bin for each category up to the greatest it meets, which the sample may lack.
    """

    _ended = False

    def next(self, input_data: Callable[..., Any]) -> bool:
        if super().next(lambda **batch: input_data(**_unlabelled(batch))):
            return True
        if self._ended:
            return False
        self._ended = True
        last = [
            float(len(feature.categories) - 1)
            if feature.kind == "category" and feature.categories
            else np.nan
            for feature in self._preprocessing.features
        ]
        weights = self._columns.weight is not None or bool(self._columns.class_weights)
        input_data(
            data=np.array([last], dtype=np.float32),
            feature_names=list(self._preprocessing.columns),
            feature_types=self._preprocessing.xgboost_types,
            **({"weight": np.ones(1, dtype=np.float32)} if weights else {}),
        )
        return True

    def reset(self) -> None:
        self._ended = False
        super().reset()


def _unlabelled(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if name not in _LABELS}


_LABELS: Final = ("label", "label_lower_bound", "label_upper_bound")
