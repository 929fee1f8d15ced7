"""Edges of a sample: as full as one another, none lost to a value that is everywhere, and drawn from all over."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlflow_core.train.data.matrix import build_matrix
from mlflow_core.train.xgboost import edges as module
from mlflow_core.train.xgboost.bins import SAMPLE_ROWS
from mlflow_core.train.xgboost.edges import EDGES_FORMAT, drawn, separators
from tests.train.data.numbered import ROW, numbered

FEW = st.integers(-6, 6).map(float)
ANY = st.floats(-1e6, 1e6, width=32) | st.just(float("nan"))


def cuts(values: np.ndarray, bins: int) -> list[np.ndarray]:
    """The upper edges of the bins that XGBoost makes of what it is given, feature by feature."""
    starts, edges = xgboost.QuantileDMatrix(values, max_bin=bins, nthread=1).get_quantile_cut()
    return [edges[first + 1 : last] for first, last in pairwise(starts)]  # the first is the least value's


def counts(values: np.ndarray, edges: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """How much falls into each bin."""
    known = ~np.isnan(values)
    bins = np.minimum(np.searchsorted(edges, values[known], side="right"), len(edges) - 1)
    return np.bincount(bins, None if weights is None else weights[known], minlength=len(edges))


def test_bins_of_a_continuous_feature_are_equally_full() -> None:
    values = np.random.default_rng(1).gamma(2, 3, (20_000, 2)).astype(np.float32)

    made = cuts(separators(values, None, 256), 256)

    for feature, edges in enumerate(made):
        full = counts(values[:, feature], edges)
        assert len(full) == 256
        assert full.max() - full.min() <= 3
        assert edges[-1] > values[:, feature].max()


def test_weights_make_bins_equally_heavy() -> None:
    random = np.random.default_rng(2)
    values = random.normal(size=(20_000, 1)).astype(np.float32)
    weights = (1 + 9 * (values[:, 0] > 1)).astype(np.float32)

    (edges,) = cuts(separators(values, weights, 64), 64)

    full = counts(values[:, 0], edges, weights)
    assert len(full) == 64
    assert full.max() - full.min() <= 2 * weights.max()


@pytest.mark.parametrize("where", [-5.0, 0.5, 5.0], ids=["least", "between", "greatest"])
def test_a_value_that_most_rows_have_leaves_the_other_bins_to_the_rest(where: float) -> None:
    random = np.random.default_rng(3)
    values = random.random((30_000, 1)).astype(np.float32)
    values[random.random(30_000) < 0.9] = where

    (edges,) = cuts(separators(values, None, 32), 32)

    full = counts(values[:, 0], edges)
    rest = np.sort(full[full < 20_000])
    assert len(edges) >= 31
    assert rest[-1] <= 2.1 * (values != where).sum() / 31


@given(values=arrays(np.float32, st.tuples(st.integers(1, 60), st.integers(1, 3)), elements=FEW | ANY))
def test_separators_are_values_in_order_from_the_least_to_the_greatest(values: np.ndarray) -> None:
    for bins in (2, 5, 64):
        made = separators(values, None, bins)
        weighted = separators(values, np.ones(len(values), np.float32), bins)

        np.testing.assert_array_equal(made, weighted)
        for own, found in zip(values.T, made.T, strict=True):
            known, own = found[~np.isnan(found)], own[~np.isnan(own)]
            assert (np.diff(known) > 0).all()
            assert set(known) <= set(own)
            if len(own):
                assert (known[0], known[-1]) == (own.min(), own.max())
            if len(set(own)) <= bins:
                assert set(known) == set(own)


@given(values=arrays(np.float32, (50, 1), elements=FEW))
def test_a_feature_of_few_values_gets_the_edges_of_plain_xgboost(values: np.ndarray) -> None:
    np.testing.assert_array_equal(cuts(separators(values, None, 16), 16)[0], cuts(values, 16)[0])


def test_rows_are_drawn_from_every_stretch_and_the_same_ones_each_time(tmp_path: Path) -> None:
    data = numbered(tmp_path, 7000, 4001, groups=500)
    matrix = build_matrix(data, "train", ROW, ("label",), tmp_path / "cache", seed=None)

    rows = drawn(matrix, 1000)[:, 0].astype(int)

    assert len(rows) == len(set(rows)) == 1000
    stretches = np.bincount(rows * 125 // matrix.rows, minlength=125)
    assert stretches.min() >= 1  # of 88 rows, of which a run has 8; it may reach into the next by rounding
    assert stretches.sum() == 1000
    np.testing.assert_array_equal(rows, drawn(matrix, 1000)[:, 0])
    np.testing.assert_array_equal(drawn(matrix, 1000)[:, 1], (rows / 2).astype(np.float32))
    for columns in (slice(0, 1), slice(1, None), slice(3, None)):
        np.testing.assert_array_equal(drawn(matrix, 1000, columns), drawn(matrix, 1000)[:, columns])


def test_rows_are_drawn_a_few_runs_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = numbered(tmp_path, 7000, groups=500)
    matrix = build_matrix(data, "train", ROW, ("label",), tmp_path / "cache", seed=None)
    whole = drawn(matrix, 1000)

    monkeypatch.setattr(module, "_READ_BYTES", 700)

    np.testing.assert_array_equal(drawn(matrix, 1000), whole)


def test_the_least_and_the_greatest_number_are_told_apart() -> None:
    greatest = np.finfo(np.float32).max
    values = np.array([[greatest], [-greatest], [0], [-0.0], [np.nan]], dtype=np.float32)

    assert separators(values, None, 8)[:4, 0].tolist() == [
        -greatest,
        0,
        greatest,
        pytest.approx(np.nan, nan_ok=True),
    ]


def test_whoever_changes_edges_gives_them_another_format(tmp_path: Path) -> None:
    data = numbered(tmp_path, 7000, groups=500)
    matrix = build_matrix(data, "train", ROW, ("label",), tmp_path / "cache", seed=None)

    found = separators(drawn(matrix, 1000), None, 16)

    digest = hashlib.sha256(found.astype("<f4").tobytes()).hexdigest()[:16]
    assert (EDGES_FORMAT, SAMPLE_ROWS, digest) == (2, 200_000, "b169bd636ca8bf27")
