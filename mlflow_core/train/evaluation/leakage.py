"""Signs that a model was told what it should predict: features that know the label, test rows seen in training.

Each feature alone is made into a predictor on one half of the rows (the label's mean in each of its values or bins,
missing being one) and measured on the other half, so that no shape of a relation is missed and none is imagined.
Whether a feature was known at its row's query time is not asked here: the engine's clocks answer that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.train.data.preprocess import Preprocessing, as_floats
from mlflow_core.train.evaluation.findings import Finding, Severity, worst_first
from mlflow_core.train.evaluation.metrics import Floats, measure

__all__ = ["LeakageLimits", "find_leakage"]

_BINS = 64
_LEAST_ROWS = 50


@dataclass(frozen=True)
class LeakageLimits:
    """From which figure on something is told. The defaults are conventions, meant to be rarely wrong, not laws.

    Args:
        auc: AUC of one feature alone that is suspicious; good features of real problems stay below.
        critical_auc: One that hardly anything but the label itself reaches.
        r2: The same for a quantity: its R2 from one feature alone.
        critical_r2: The same.
        same_rows: Share of test rows that are in the training part, beyond the share of training rows that have a
            twin there: rows of a few coarse features are often equal, and that is no leak.
        same_keys: Share of test rows whose keys and time are in the training part.
    """

    auc: float = 0.9
    critical_auc: float = 0.99
    r2: float = 0.9
    critical_r2: float = 0.999
    same_rows: float = 0.01
    same_keys: float = 0.0


def find_leakage(
    preprocessing: Preprocessing,
    train: pa.Table,
    test: pa.Table,
    label: str,
    *,
    keys: Sequence[str] = (),
    limits: LeakageLimits | None = None,
    seed: int = 0,
) -> tuple[Finding, ...]:
    """Look for leaks between label and features, and between parts.

    Args:
        preprocessing: The model's: which columns are features, and how they become numbers.
        train: Rows of the training part, a sample if it is large.
        test: Rows of the test part.
        label: The label's column: numbers or booleans; two values are taken as classes.
        keys: Columns that together name a row, the query time among them; without any, keys are not compared.
        limits: From which figures on something is told.
        seed: Which rows are in which half.

    Returns:
        The findings, the worst first; none where nothing was noticed.

    Raises:
        TrainError: A column is missing.
    """
    limits = limits or LeakageLimits()
    matrices = preprocessing.matrix(train), preprocessing.matrix(test)
    y, tested = as_floats(train.column(label)), as_floats(test.column(label))
    found = _telling(preprocessing, matrices[0], y, limits, seed)
    found += _same_rows(matrices, (y, tested), limits)
    found += _same_keys(train, test, keys, limits)
    return worst_first(found)


def _telling(
    preprocessing: Preprocessing, matrix: NDArray[np.float32], y: Floats, limits: LeakageLimits, seed: int
) -> list[Finding]:
    """Features that predict the label alone, or are it."""
    known = np.isfinite(y)
    matrix, y, found = matrix[known], y[known], []
    if len(y) < _LEAST_ROWS or y.min() == y.max():
        return []
    half = np.random.default_rng(seed).random(len(y)) < 0.5
    binary = len(np.unique(y)) == 2
    truth = (y == y.max()).astype(np.float64) if binary else y
    types = preprocessing.xgboost_types
    for column, name, type_ in zip(matrix.T, preprocessing.columns, types, strict=True):
        values = column.astype(np.float64)
        if (same := _is_the_label(name, values, y, truth, binary=binary)) is not None:
            found.append(same)
            continue
        figure = _alone(_binned(values, category=type_ == "c"), truth, half, binary=binary)
        limit, critical, metric = (
            (limits.auc, limits.critical_auc, "AUC") if binary else (limits.r2, limits.critical_r2, "R2")
        )
        if figure >= limit:
            sentence = (
                f'"{name}" alone reaches {metric} {figure:.4f} on rows it was not fitted on. Look at how it is made: '
                "it may be known only after the label."
            )
            severity: Severity = "critical" if figure >= critical else "warning"
            found.append(Finding("predicts_alone", severity, name, sentence, figure, limit))
    return found


def _is_the_label(name: str, values: Floats, y: Floats, truth: Floats, *, binary: bool) -> Finding | None:
    """A feature that is the label, a threshold away from it, or a line of it."""
    known = np.isfinite(values)
    share = float(known.mean())
    if known.sum() < _LEAST_ROWS or share < 0.5 or truth[known].min() == truth[known].max():
        return None
    x, t, own = values[known], truth[known], y[known]
    if x.min() == x.max():
        return None
    if np.array_equal(x.astype(np.float32), own.astype(np.float32)):
        what = "is the label itself"
    elif binary and measure("auc", t, x) in (0.0, 1.0):
        what = "gives the label by a threshold"
    elif not binary and abs(np.corrcoef(x, own)[0, 1]) > 1 - 1e-9:
        what = "is the label on another scale"
    else:
        return None
    where = "in every row" if share == 1 else f"in each of the {share:.1%} of rows where it is not missing"
    sentence = f'"{name}" {what}, {where}. A model that may read it predicts nothing.'
    return Finding("is_the_label", "critical", name, sentence, share, 0.5)


def _alone(bins: NDArray[np.int64], y: Floats, half: NDArray[np.bool_], *, binary: bool) -> float:
    """What a feature alone is worth: its bins' means of one half, measured on the other; NaN if it says nothing."""
    sums = np.bincount(bins[half], weights=y[half], minlength=int(bins.max()) + 1)
    rows = np.bincount(bins[half], minlength=int(bins.max()) + 1)
    mean = float(y[half].mean())
    predicted = ((sums + mean) / (rows + 1))[bins]  # one row of the mean: a bin of few rows says little
    return measure("auc" if binary else "r2", y[~half], predicted[~half])


def _binned(values: Floats, *, category: bool) -> NDArray[np.int64]:
    """Categories and few values as they are, many in bins of equal size; missing ones in a bin of their own."""
    known = np.isfinite(values)
    edges = np.unique(values[known])
    if len(edges) > _BINS and not category:
        edges = np.unique(np.quantile(values[known], np.linspace(0, 1, _BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, np.where(known, values, 0.0), side="left")
    numbered: NDArray[np.int64] = np.where(known, bins, len(edges) + 1).astype(np.int64)
    return numbered


def _same_rows(
    matrices: tuple[NDArray[np.float32], NDArray[np.float32]],
    labels: tuple[Floats, Floats],
    limits: LeakageLimits,
) -> list[Finding]:
    """Test rows whose features and label are those of a training row."""
    train, test = (_hashed(matrix, y) for matrix, y in zip(matrices, labels, strict=True))
    if not len(train) or not len(test):
        return []
    seen, counts = np.unique(train, return_counts=True)
    share = float(np.isin(test, seen).mean())
    twins = float(counts[counts > 1].sum() / len(train))
    if share - twins <= limits.same_rows:
        return []
    sentence = (
        f"{share:.1%} of the test rows have the features and the label of a training row ({twins:.1%} of the training "
        "rows have a twin there). The test part is not new to the model."
    )
    severity: Severity = "critical" if share - twins > 10 * limits.same_rows else "warning"
    return [Finding("same_rows", severity, "test", sentence, share, twins + limits.same_rows)]


def _hashed(matrix: NDArray[np.float32], y: Floats) -> NDArray[np.uint64]:
    """One number a row, equal for equal rows: the sum of its words times odd random factors."""
    plain = np.where(np.isnan(matrix), np.float32(np.nan), matrix + np.float32(0.0))  # one NaN, one zero
    words = np.column_stack([plain, y.astype(np.float32)]).view(np.uint32).astype(np.uint64)
    factors = np.random.default_rng(1).integers(0, 2**63, words.shape[1], dtype=np.uint64)
    hashed: NDArray[np.uint64] = words @ (factors * np.uint64(2) + np.uint64(1))
    return hashed


def _same_keys(train: pa.Table, test: pa.Table, keys: Sequence[str], limits: LeakageLimits) -> list[Finding]:
    """Test rows that are rows of the training part by name."""
    if not keys or not train.num_rows or not test.num_rows:
        return []
    unique = train.select(list(keys)).group_by(list(keys)).aggregate([])
    both = test.select(list(keys)).join(unique, list(keys), join_type="left semi")
    share = both.num_rows / test.num_rows
    if share <= limits.same_keys:
        return []
    sentence = f"{share:.1%} of the test rows are in the training part: the same {', '.join(keys)}."
    return [Finding("same_keys", "critical", "test", sentence, share, limits.same_keys)]
