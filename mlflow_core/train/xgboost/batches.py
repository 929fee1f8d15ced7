"""Pieces of a training set as XGBoost asks for them: float32 batches, several times over, never all at once.

Rows are read a row group at a time, of a great one a few rows at a time, and put together into batches of an even size; a batch of
a ranking ends where a query ends. XGBoost goes through the batches twice or more: small parts are kept after the first
time, others are read anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.data.pieces import Piece
from mlflow_core.train.data.preprocess import Preprocessing
from mlflow_core.train.xgboost.columns import Columns

__all__ = ["Batches", "Rows"]

_READ_ROWS: Final = 16_384
_READ_BYTES: Final = 64 * 1024
_READ_COLUMNS: Final = 8
_GROUP_BYTES: Final = 48 * 1024**2
_BATCH_BYTES: Final = 16 * 1024**2
_KEPT_BYTES: Final = 48 * 1024**2  # the sample that edges are taken from, of 60 columns

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Rows:
    """Rows of a part, by address.

    Args:
        pieces: Where they are, in order.
        queries: The first row of each query among them, (n_queries,) int64; None where rows stand for themselves.
        every: Of these rows, only every so-manieth is meant.
    """

    pieces: tuple[Piece, ...]
    queries: NDArray[np.int64] | None = None
    every: int = 1

    @property
    def count(self) -> int:
        """How many there are."""
        return -(-sum(piece.rows for piece in self.pieces) // self.every)

    def read(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Read them in order, never many at a time.

        Args:
            columns: Which columns.

        Yields:
            Tables of a row group's rows, or of 16,384 of a great one.
        """
        at = 0
        for table in _read(self.pieces, list(dict.fromkeys(columns))):
            first, at = -at % self.every, at + len(table)
            yield table if self.every == 1 else table.take(pa.array(np.arange(first, len(table), self.every)))

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
        preprocessing: How columns become numbers.
        columns: What is read beside the features.
        cache: Where XGBoost keeps what it makes of them, for external memory; a prefix of file names.
        size: Rows of a batch; by default as many as make 16 MiB.
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
        self._ends = rows.ends(size or max(1024, _BATCH_BYTES // (4 * max(1, preprocessing.width))))
        self._keeps = 4 * rows.count * preprocessing.width <= _KEPT_BYTES
        self._kept: list[Arrays] = []
        self._reading: Iterator[Arrays] | None = None
        super().__init__(cache_prefix=str(cache) if cache is not None else None, release_data=True)

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Hand XGBoost the next batch; see ``xgboost.DataIter``."""
        if self._reading is None:
            self._reading = iter(self._kept) if len(self._kept) == len(self._ends) else self._read()
        batch = next(self._reading, None)
        if batch is None:
            return False
        input_data(
            feature_names=list(self._preprocessing.columns),
            feature_types=self._preprocessing.xgboost_types,
            **batch,
        )
        return True

    def reset(self) -> None:
        """Begin again; see ``xgboost.DataIter``."""
        self._reading = None

    def _read(self) -> Iterator[Arrays]:
        self._kept.clear()
        tables = self._rows.read((*self._columns.names, *self._preprocessing.names))
        left: pa.Table | None = None
        for start, end in pairwise((0, *self._ends)):
            batch: Arrays = {"data": np.empty((end - start, self._preprocessing.width), dtype=np.float32)}
            parts: list[Arrays] = []
            at = 0
            while at < end - start:
                table = left if left is not None else next(tables)
                here = table.slice(0, end - start - at)
                left = table.slice(len(here)) if len(here) < len(table) else None
                self._preprocessing.fill(batch["data"][at : at + len(here)], here)
                parts.append(self._columns.arrays(here))
                at += len(here)
            batch |= {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            if self._rows.queries is not None:
                batch |= self._of_queries(start, end, batch.get("weight"))
            if self._keeps:
                self._kept.append(batch)
            yield batch

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


def _read(pieces: Sequence[Piece], columns: Sequence[str]) -> Iterator[pa.Table]:
    for piece in pieces:
        # Buffered, each column's pages are fetched as they are decoded, not a whole row group before the first.
        with pq.ParquetFile(piece.path, pre_buffer=False, buffer_size=_READ_BYTES) as file:
            if 8 * len(columns) * file.metadata.row_group(piece.group).num_rows <= _GROUP_BYTES:
                yield _few_columns_at_a_time(file, piece.group, columns).slice(piece.start, piece.rows)
            else:
                yield from _few_rows_at_a_time(file, piece, columns)


def _few_columns_at_a_time(file: pq.ParquetFile, group: int, columns: Sequence[str]) -> pa.Table:
    """Read a row group. A column's decoder takes some 3 MB, so that 50 at once would take more than all their rows."""
    made: dict[str, pa.ChunkedArray] = {}
    for first in range(0, len(columns), _READ_COLUMNS):
        some = list(columns[first : first + _READ_COLUMNS])
        table = file.read_row_group(group, columns=some, use_threads=False)
        made |= {name: table.column(name) for name in some}
    return pa.table(made)


def _few_rows_at_a_time(file: pq.ParquetFile, piece: Piece, columns: Sequence[str]) -> Iterator[pa.Table]:
    at = 0
    for batch in file.iter_batches(_READ_ROWS, columns=list(columns), row_groups=[piece.group]):
        start, stop = max(piece.start, at), min(piece.start + piece.rows, at + len(batch))
        if start < stop:
            yield pa.Table.from_batches([batch.slice(start - at, stop - start)])
        at += len(batch)
        if at >= piece.start + piece.rows:
            break
