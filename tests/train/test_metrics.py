"""Metrics: scikit-learn's values, the loops' values under weights, and the same by row and by group."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as theirs

from mlflow_core.errors import TrainError
from mlflow_core.spec.pipeline import METRICS
from mlflow_core.train.metrics import GREATER_IS_BETTER, measure, prepare
from tests.oracle import metrics as oracle

SKLEARN = {
    "auc": theirs.roc_auc_score,
    "average_precision": theirs.average_precision_score,
    "log_loss": theirs.log_loss,
    "brier": theirs.brier_score_loss,
    "accuracy": lambda y, p, sample_weight=None: theirs.accuracy_score(
        y, p >= 0.5, sample_weight=sample_weight
    ),
    "rmse": theirs.root_mean_squared_error,
    "mae": theirs.mean_absolute_error,
    "r2": theirs.r2_score,
}


def drawn(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = (random.random(rows) < 0.3).astype(float)
    scores = np.round(np.clip(0.3 * y + random.random(rows) * 0.7, 0, 1), 2)  # rounded: many ties
    return y, scores, random.integers(0, 4, rows).astype(float)


def test_every_metric_of_the_specs_can_be_measured_and_has_a_direction() -> None:
    assert set(METRICS) == set(GREATER_IS_BETTER) == set(SKLEARN)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_a_metric_has_the_value_that_scikit_learn_gives_with_and_without_weights(
    metric: str, seed: int
) -> None:
    y, scores, weights = drawn(400, seed)

    assert measure(metric, y, scores) == pytest.approx(SKLEARN[metric](y, scores), rel=1e-9)
    assert prepare(metric, y, scores).at(weights) == pytest.approx(
        SKLEARN[metric](y, scores, sample_weight=weights), rel=1e-9
    )


@pytest.mark.parametrize("metric", ["auc", "average_precision"])
@pytest.mark.parametrize("seed", range(5))
def test_a_ranking_metric_has_the_value_of_the_loop(metric: str, seed: int) -> None:
    y, scores, weights = drawn(60, seed)

    expected = getattr(oracle, metric)(y.tolist(), scores.tolist(), weights.tolist())

    assert prepare(metric, y, scores).at(weights) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_weights_by_group_give_what_weights_by_row_give(metric: str) -> None:
    y, scores, _ = drawn(500, 11)
    random = np.random.default_rng(12)
    groups = random.integers(0, 9, 500)
    measures = prepare(metric, y, scores)
    grouped = measures.by_group(groups, 9)

    for _ in range(20):
        weights = random.integers(0, 3, 9).astype(float)
        assert grouped.at(weights) == pytest.approx(measures.at(weights[groups]), rel=1e-9)


def test_what_is_not_defined_is_nan() -> None:
    y = np.array([1.0, 1.0])

    assert np.isnan(measure("auc", y, np.array([0.1, 0.2])))
    assert np.isnan(measure("average_precision", 1 - y, np.array([0.1, 0.2])))
    assert np.isnan(measure("r2", y, np.array([0.1, 0.2])))
    assert np.isnan(prepare("brier", y, y).at(np.zeros(2)))


def test_r2_of_a_target_far_from_zero_does_not_cancel() -> None:
    random = np.random.default_rng(5)
    noise = random.normal(size=1000)
    y = 1e9 + noise

    assert measure("r2", y, y + 0.1 * random.normal(size=1000)) == pytest.approx(0.99, abs=0.005)


@pytest.mark.parametrize(
    ("metric", "y", "scores", "message"),
    [
        ("acu", [0, 1], [0.1, 0.2], '"acu" is not a metric'),
        ("auc", [0, 1], [0.1], "1 predictions were given for 2 rows"),
        ("auc", [0, 1], [0.1, np.nan], "some are NaN or infinite"),
        ("auc", [0, 2], [0.1, 0.2], "needs labels that are 0 or 1"),
        ("log_loss", [0, 1], [0.1, 1.2], "outside 0 to 1"),
    ],
)
def test_what_a_metric_is_not_defined_on_is_refused(metric: str, y: list, scores: list, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        prepare(metric, np.array(y, dtype=float), np.array(scores, dtype=float))
