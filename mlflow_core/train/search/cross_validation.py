"""Folds in time over the training part: each trains on the rows before an instant and is judged on those after it.

The instants cut the rows into blocks of equal size, on a grid of 65,536 steps over the time they span, so that rows of
one time are never divided. All instants together cut time into segments; each row is written to its segment once, and
a fold is a union of segments' files: no row is copied twice, and trainers read folds as they read any training set.

Source: Bergmeir and Benítez 2012 (rolling origin); the embargo is that of López de Prado 2018, ch. 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.spec.search import CrossValidation
from mlflow_core.train.context import TrainContext
from mlflow_core.train.data.partition import partition
from mlflow_core.train.data.spread import spread
from mlflow_core.train.data.training_set import TrainingData, check_columns

__all__ = ["FOLDS", "GRID", "Fold", "cut_folds", "folds_of"]

GRID = 65_536
"""Steps of the grid that instants lie on."""

FOLDS = "folds"
"""Where in the folder of the training folds are written: copies of rows, which the caller removes."""

_FIRST, _LAST = -(2**62), 2**62


@dataclass(frozen=True)
class Fold:
    """A fold's bounds, microseconds since epoch, UTC; lower ones included, upper ones not.

    Args:
        train_from: Rows from here on are trained with.
        train_to: Rows up to here; what lies between here and ``validate_from`` is the embargo.
        validate_from: Rows from here on are validated on.
        validate_to: Rows up to here.
    """

    train_from: int
    train_to: int
    validate_from: int
    validate_to: int


def folds_of(instants: Sequence[int], validation: CrossValidation) -> tuple[Fold, ...]:
    """The folds whose validation rows begin at some instants.

    Args:
        instants: Ascending, microseconds since epoch, UTC.
        validation: Embargo and window.
    """
    made = []
    for begin, end in zip(instants, [*instants[1:], _LAST], strict=True):
        to = begin - int(validation.embargo)
        made.append(Fold(to - int(validation.window) if validation.window else _FIRST, to, begin, end))
    return tuple(made)


def cut_folds(
    data: TrainingData, validation: CrossValidation, context: TrainContext
) -> tuple[TrainingData, ...]:
    """Cut the training part into folds.

    Args:
        data: The training set; its validation and test parts are not opened.
        validation: How many folds, the embargo, the window.
        context: Where the folds are written, and the cluster that writes them.

    Returns:
        A training set for each fold, in the order of time, without a test part.

    Raises:
        TrainError: There is no time column, a time is null, or a fold has no rows to train or to validate with.
    """
    files, client = data.files("train"), context.client
    ranges = spread(partial(_range, column=data.time_column), files, client)
    known = [one for one in ranges if one is not None]
    if not known:
        raise TrainError('the part "train" of the dataset has no rows', hint="Move the cuts of the split.")
    least, greatest = min(one[0] for one in known), max(one[1] for one in known)
    width = max(1, -(-(greatest - least + 1) // GRID))
    count = partial(_histogram, column=data.time_column, least=least, width=width)
    counts = np.sum(spread(count, files, client), axis=0)
    instants = _instants(counts, least, width, validation.folds)
    folds = folds_of(instants, validation)
    cuts = sorted({at for fold in folds for at in vars(fold).values() if _FIRST < at < _LAST})
    segments = partition(
        data,
        "train",
        _Segment(data.time_column, tuple(cuts)),
        context.workdir / FOLDS,
        described=["folds", data.time_column, cuts],
        client=client,
    )
    edges = [_FIRST, *cuts, _LAST]
    made = []
    for number, fold in enumerate(folds, start=1):
        train = _between(segments, edges, fold.train_from, fold.train_to)
        validate = _between(segments, edges, fold.validate_from, fold.validate_to)
        if not train or not validate:
            raise TrainError(
                f"fold {number} has no rows to {'train' if not train else 'validate'} with: it trains before "
                f"{_shown(fold.train_to)} and validates from {_shown(fold.validate_from)}",
                expected="rows in both",
                hint=f"The training part spans {_shown(least)} to {_shown(greatest)}: use fewer folds, or a smaller "
                "embargo or a longer window.",
            )
        made.append(replace(data, shards={"train": train, "validate": validate, "test": ()}))
    return tuple(made)


@dataclass(frozen=True)
class _Segment:
    """Which segment of time each row is in."""

    column: str
    cuts: tuple[int, ...]

    def __call__(self, table: pa.Table) -> NDArray[np.int64]:
        times = _times(table.column(self.column))
        return np.searchsorted(np.array(self.cuts, dtype=np.int64), times, side="right").astype(np.int64)


def _instants(counts: NDArray[np.int64], least: int, width: int, folds: int) -> list[int]:
    """Where the second to the last block of rows begin."""
    before = np.cumsum(counts)
    total = int(before[-1])
    found = []
    for block in range(1, folds + 1):
        step = int(np.searchsorted(before, total * block / (folds + 1), side="left")) + 1
        found.append(least + step * width)
    if len(set(found)) < folds or int(before[-1]) == int(before[(found[-1] - least) // width - 1]):
        raise TrainError(
            f"the training part's {total:,} rows have too few different times for {folds} folds",
            hint="Use fewer folds.",
        )
    return found


def _between(
    segments: Mapping[int, tuple[Path, ...]], edges: Sequence[int], low: int, high: int
) -> tuple[Path, ...]:
    """The files of the segments that lie between two instants, in the order of time."""
    return tuple(
        path
        for place, paths in segments.items()
        if low <= edges[place] and edges[place + 1] <= high
        for path in paths
    )


def _range(path: Path, column: str) -> tuple[int, int] | None:
    times = _read_times(path, column)
    return (int(times.min()), int(times.max())) if len(times) else None


def _histogram(path: Path, column: str, least: int, width: int) -> NDArray[np.int64]:
    steps = (_read_times(path, column) - least) // width
    return np.bincount(steps, minlength=GRID).astype(np.int64)


def _read_times(path: Path, column: str) -> NDArray[np.int64]:
    check_columns(pq.read_schema(path), (column,), path)
    times = pq.read_table(path, columns=[column]).column(column)
    if times.null_count:
        raise TrainError(
            f'the time "{column}" is null in {times.null_count:,} rows',
            place=str(path),
            expected="a time in every row",
        )
    return _times(times)


def _times(column: pa.ChunkedArray) -> NDArray[np.int64]:
    if not pa.types.is_timestamp(column.type):
        raise TrainError(f"the time column is of type {column.type}", expected="timestamp[us, UTC]")
    whole: NDArray[np.int64] = column.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64()).to_numpy()
    return whole


def _shown(at: int) -> str:
    return f"{datetime.fromtimestamp(at / 1e6, UTC):%Y-%m-%d %H:%M:%SZ}"
