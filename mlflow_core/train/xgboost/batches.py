"""Rows of a training set as XGBoost asks for them: float32 batches, three times over and more, never all at once.

They were decoded once, when the matrix was built; a batch is read from it where it is needed and let go after. A batch
of a ranking ends where a query ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xgboost
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.data.matrix import StoredMatrix
from mlflow_core.train.data.preprocess import Preprocessing
from mlflow_core.train.xgboost.columns import Columns

__all__ = ["Batches", "Rows"]

_BATCH_BYTES: Final = 8 * 1024**2

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Rows:
    """Rows of a part that stand together.

    Args:
        matrix: The part's matrix; behind the features it has the columns that are read beside them.
        first: The first of them.
        last: The one after the last of them.
        queries: The first row of each query among them, counted from ``first``, (n_queries,) int64; None where rows
            stand for themselves.
    """

    matrix: StoredMatrix
    first: int
    last: int
    queries: NDArray[np.int64] | None = None

    @property
    def count(self) -> int:
        """How many there are."""
        return self.last - self.first

    def ends(self, size: int) -> tuple[int, ...]:
        """Where batches of about ``size`` rows end, counted from the first row."""
        count = self.count
        if self.queries is None:
            return tuple(range(size, count, size)) + ((count,) if count else ())
        of_queries = np.append(self.queries[1:], count)
        ends, at = [], 0
        while at < count:
            # Up to the last query that ends within the size; one that is longer makes a batch of its own.
            last = max(
                int(np.searchsorted(of_queries, at + size, side="right")) - 1,
                int(np.searchsorted(of_queries, at, side="right")),
            )
            at = int(of_queries[last])
            ends.append(at)
        return tuple(ends)


class Batches(xgboost.DataIter):
    """Rows as batches of XGBoost's.

    Args:
        rows: Which.
        preprocessing: How columns became the matrix's.
        columns: What is read beside the features.
        cache: Where XGBoost keeps what it makes of them, for external memory; a prefix of file names.
        size: Rows of a batch; by default as many as make 8 MiB.
    """

    def __init__(
        self,
        rows: Rows,
        preprocessing: Preprocessing,
        columns: Columns,
        *,
        cache: Path | None = None,
        size: int | None = None,
    ) -> None:
        self._rows, self._preprocessing, self._columns = rows, preprocessing, columns
        self._ends = (0, *rows.ends(size or max(1024, _BATCH_BYTES // (4 * rows.matrix.width))))
        self._at = 0
        super().__init__(cache_prefix=str(cache) if cache is not None else None, release_data=True)

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Hand XGBoost the next batch; see ``xgboost.DataIter``."""
        if self._at + 1 >= len(self._ends):
            return False
        input_data(
            feature_names=list(self._preprocessing.columns),
            feature_types=self._preprocessing.xgboost_types,
            **self._batch(*self._ends[self._at : self._at + 2]),
        )
        self._at += 1
        return True

    def reset(self) -> None:
        """Begin again; see ``xgboost.DataIter``."""
        self._at = 0

    def _batch(self, start: int, end: int) -> Arrays:
        read = self._rows.matrix.read([self._rows.first + start], end - start)
        features = self._preprocessing.width
        batch: Arrays = {"data": read[:, :features], **self._columns.arrays(read[:, features:])}
        if self._rows.queries is not None:
            batch |= self._of_queries(start, end, batch.get("weight"))
        return batch

    def _of_queries(self, start: int, end: int, weight: NDArray[np.float32] | None) -> Arrays:
        """The sizes of a batch's queries, and one weight for each, which is how XGBoost wants them."""
        assert self._rows.queries is not None
        first, last = np.searchsorted(self._rows.queries, [start, end])
        begins = self._rows.queries[first:last] - start
        sizes = np.diff(np.append(begins, end - start))
        if weight is None:
            return {"group": sizes}
        of_query = weight[begins]
        if (np.repeat(of_query, sizes) != weight).any():
            raise TrainError(
                f'weight "{self._columns.weight}" differs within a query',
                object="XGBoost",
                expected="one weight for all rows of a query, because a ranking compares whole queries",
            )
        return {"group": sizes, "weight": of_query}
