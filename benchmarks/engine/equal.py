"""Whether a contestant's result is the right one: every entity row once, every value equal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

__all__ = ["column_of", "same", "wrong_or_lost"]

Array = np.ndarray[Any, Any]


def same(left: Path, right: Path, columns: Sequence[str], *, exact: bool) -> bool:
    """Whether two folders of Parquet files hold the same rows, in whatever order, with the same values.

    One column at a time: the largest result does not fit in memory twice.

    Args:
        left: Ours.
        right: The peer's.
        columns: The features.
        exact: Equal to the bit (NaN and null are one); else floats within 1e-9, relative or absolute.
    """
    places = [_places(folder) for folder in (left, right)]
    if any(found is None for found in places) or len(places[0]) != len(places[1]):
        return False
    for name in columns:
        mine, theirs = (
            _values(folder, name)[order] for folder, order in zip((left, right), places, strict=True)
        )
        equal = (
            np.array_equal(mine, theirs, equal_nan=True)
            if exact
            else np.allclose(mine, theirs, rtol=1e-9, atol=1e-9, equal_nan=True)
        )
        if not equal:
            return False
    return True


def wrong_or_lost(folder: Path, name: str, truth: Array) -> int:
    """Count entity rows that are missing from a result, come more than once, or have another value than the truth.

    Args:
        folder: The result's Parquet files.
        name: The feature.
        truth: Its values in the entity rows' order, NaN for null, (n_rows,).
    """
    row, value = column_of(folder, "row"), column_of(folder, name)
    times = np.bincount(row, minlength=len(truth))
    found = np.full(len(truth), np.nan)
    found[row] = value
    right = (found == truth) | (np.isnan(found) & np.isnan(truth))
    return int((~right | (times != 1)).sum())


def column_of(folder: Path, name: str) -> Array:
    """Read one column of a folder of Parquet files, in the files' order; null is NaN."""
    table = pq.read_table(folder, columns=[name], partitioning=None)
    return table[name].to_numpy()


def _places(folder: Path) -> Array | None:
    row = column_of(folder, "row")
    order = np.argsort(row)
    return order if np.array_equal(row[order], np.arange(len(row))) else None


def _values(folder: Path, name: str) -> Array:
    return column_of(folder, name).astype(np.float64)
