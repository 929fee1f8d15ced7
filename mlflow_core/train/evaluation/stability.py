"""How far a column's values are from what they were: the population stability index, of numbers, booleans and texts.

The index is the sum over bins of ``(now - before) * ln(now / before)``, where both are a bin's share of the rows
(Siddiqi, "Credit Risk Scorecards", 2006; it is the divergence of Jeffreys, "An invariant form for the prior
probability in estimation problems", 1946). Bins are made of the values before, and one more is for what is missing.
There are fewer bins where there are few rows, because each adds about ``1 / rows before + 1 / rows now`` to the index of
two samples that differ by chance alone. The naive truth is ``tests/oracle/stability.py``. Which features together tell
two parts apart is ``evaluation.drift``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlflow_core.errors import TrainError, nearest
from mlflow_core.train.data.preprocess import as_floats, kind_of

__all__ = ["LEAST_SHARE", "can_be_compared", "distances", "stability_index"]

LEAST_SHARE: Final = 1e-4
"""What an empty bin counts as: a share of nothing would be infinitely far from any other."""

_BINS, _ROWS_A_BIN, _ROWS_A_TEXT = 10, 50, 25
Ints: TypeAlias = NDArray[np.int64]
Column: TypeAlias = pa.ChunkedArray | pa.Array


def distances(before: pa.Table, now: pa.Table, features: Sequence[str]) -> dict[str, float]:
    """Measure how far each feature is from what it was.

    Args:
        before: Rows as they were, (n,).
        now: Rows as they are, (m,).
        features: Columns of both; those that are not of one kind on both sides, or are no single values, are left out.

    Returns:
        Feature -> index, 0 where nothing differs, the farthest first.

    Raises:
        TrainError: A column or all rows of one side are missing.

    Example:
        >>> before = pa.table({"delay": range(1000), "carrier": ["UA", "DL"] * 500})
        >>> now = pa.table({"delay": range(1000), "carrier": ["UA"] * 1000})
        >>> [(name, round(far, 2)) for name, far in distances(before, now, ["delay", "carrier"]).items()]
        [('carrier', 4.6), ('delay', 0.0)]
    """
    for rows in (before, now):
        for name in features:
            if name not in rows.column_names:
                raise TrainError(f'there is no column "{name}"', hint=nearest(name, rows.column_names))
    found = {
        name: stability_index(before[name], now[name])
        for name in features
        if can_be_compared(before.schema.field(name).type, now.schema.field(name).type)
    }
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def can_be_compared(before: pa.DataType, now: pa.DataType) -> bool:
    """Whether both are single numbers, booleans or texts of one kind; a column that is null throughout is of any kind."""
    try:
        kinds = {kind_of("", one) for one in (before, now)} - {None}
    except TrainError:
        return False
    return len(kinds) <= 1


def stability_index(before: Column, now: Column) -> float:
    """Measure how far one column is from what it was.

    A number's bins are its own values where there are no more of them than bins; else they end at quantiles, and a
    value that fills a whole bin has one of its own. A text's are its most frequent values of at least 25 rows before
    (rarer ones would be the most frequent by chance), and one for all others.

    Args:
        before: Its values as they were, (n,).
        now: Its values as they are, (m,), of the same kind.

    Returns:
        The index, at least 0.

    Raises:
        TrainError: One side has no rows.
    """
    rows = len(before), len(now)
    if not min(rows):
        raise TrainError(f"there is nothing to compare: {rows[0]} rows before, {rows[1]} rows now")
    bins = max(2, min(_BINS, min(rows) // _ROWS_A_BIN))
    kind = kind_of("", before.type) or kind_of("", now.type)
    places = _places_of_texts if kind == "category" else _places_of_numbers
    counts = [np.bincount(one, minlength=2 * bins + 2) for one in places(before, now, bins)]
    old, new = (np.maximum(count / n, LEAST_SHARE) for count, n in zip(counts, rows, strict=True))
    some = (counts[0] > 0) | (counts[1] > 0)
    return float(((new - old) * np.log(new / old))[some].sum())


def _places_of_numbers(before: Column, now: Column, bins: int) -> tuple[Ints, Ints]:
    """The bin of each value; 0 is for what is missing, 1 for the least numbers."""
    old, new = (_floats(one) for one in (before, now))
    known = np.sort(old[~np.isnan(old)])
    if not len(known):
        # Nothing was known before: whatever is known now is in one bin.
        return _beside_missing(old, np.zeros(0)), _beside_missing(new, np.zeros(0))
    own = np.unique(known)
    if len(own) <= bins:
        return _of_values(old, own), _of_values(new, own)
    ends = known[[len(known) * n // bins - 1 for n in range(1, bins)]]
    often = ends[1:][ends[1:] == ends[:-1]]
    edges = np.unique(np.concatenate([ends, np.nextafter(often, -np.inf)]))
    return _beside_missing(old, edges), _beside_missing(new, edges)


def _beside_missing(values: NDArray[np.float64], edges: NDArray[np.float64]) -> Ints:
    """Bins that hold their upper end."""
    return np.where(np.isnan(values), 0, 1 + np.searchsorted(edges, values, side="left"))


def _of_values(values: NDArray[np.float64], own: NDArray[np.float64]) -> Ints:
    """A bin for each value that there was, then one for all others."""
    place = np.minimum(np.searchsorted(own, values), len(own) - 1)
    there = own[place] == values
    return np.where(np.isnan(values), 0, 1 + np.where(there, place, len(own)))


def _places_of_texts(before: Column, now: Column, bins: int) -> tuple[Ints, Ints]:
    old, new = (_texts(one) for one in (before, now))
    counted = sorted(
        ((-int(one["counts"]), str(one["values"])) for one in pc.value_counts(old.drop_null()).to_pylist()),
    )
    kept = pa.array([text for few, text in counted[:bins] if -few >= _ROWS_A_TEXT], pa.string())
    return _of_texts(old, kept), _of_texts(new, kept)


def _of_texts(column: Column, kept: pa.Array) -> Ints:
    place = as_floats(pc.index_in(column, value_set=kept))
    missing = np.asarray(column.is_null())
    return np.where(missing, 0, np.where(np.isnan(place), len(kept) + 1, place + 1)).astype(np.int64)


def _floats(column: Column) -> NDArray[np.float64]:
    return as_floats(column.cast(pa.float64()) if pa.types.is_null(column.type) else column)


def _texts(column: Column) -> Column:
    return column.cast(pa.string())
