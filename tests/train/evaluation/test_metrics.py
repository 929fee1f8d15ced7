"""Metrics: scikit-learn's values, the loops' values, the law of repetition, and the same by row and by group."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import sklearn.metrics as theirs
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_core.errors import TrainError
from mlflow_core.spec.metric import METRICS, parse_metric
from mlflow_core.train.evaluation.metrics import GREATER_IS_BETTER, greater_is_better, measure, prepare
from mlflow_core.train.evaluation.truth import Truth
from tests.oracle import metrics as oracle
from tests.train.evaluation.cases import EACH, QUANTILES, made, repeated, weights_of


def at_half(y: np.ndarray, p: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    return theirs.accuracy_score(y, p >= 0.5, sample_weight=sample_weight)


def named(score, y: np.ndarray, p: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    return score(y, p.argmax(axis=1), sample_weight=sample_weight)


def pinball(y: np.ndarray, p: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    return np.mean(
        [
            theirs.mean_pinball_loss(y, p[:, n], alpha=level, sample_weight=sample_weight)
            for n, level in enumerate(QUANTILES)
        ]
    )


SKLEARN = {
    ("classification", "auc"): theirs.roc_auc_score,
    ("classification", "average_precision"): theirs.average_precision_score,
    ("classification", "log_loss"): theirs.log_loss,
    ("classification", "brier"): theirs.brier_score_loss,
    ("classification", "accuracy"): at_half,
    ("anomaly", "auc"): theirs.roc_auc_score,
    ("anomaly", "average_precision"): theirs.average_precision_score,
    ("multiclass", "auc"): partial(theirs.roc_auc_score, multi_class="ovr"),
    ("multiclass", "log_loss"): theirs.log_loss,
    ("multiclass", "brier"): partial(theirs.brier_score_loss, scale_by_half=False),
    ("multiclass", "accuracy"): partial(named, theirs.accuracy_score),
    ("multiclass", "macro_f1"): partial(named, partial(theirs.f1_score, average="macro")),
    ("regression", "rmse"): theirs.root_mean_squared_error,
    ("regression", "mae"): theirs.mean_absolute_error,
    ("regression", "r2"): theirs.r2_score,
    ("targets", "rmse"): theirs.root_mean_squared_error,
    ("targets", "mae"): theirs.mean_absolute_error,
    ("targets", "r2"): theirs.r2_score,
    ("quantile", "pinball"): pinball,
}


def test_every_metric_of_the_specs_has_a_direction_and_is_measured_here() -> None:
    assert set(METRICS) == set(GREATER_IS_BETTER) == {parse_metric(metric)[0] for _, metric in EACH}
    assert greater_is_better("ndcg@10")
    assert not greater_is_better("pinball")


@pytest.mark.parametrize("case", SKLEARN, ids="-".join)
@pytest.mark.parametrize("seed", range(3))
def test_a_metric_has_the_value_that_scikit_learn_gives_with_and_without_weights(
    case: tuple[str, str], seed: int
) -> None:
    kind, metric = case
    truth, said = made(kind, seed, 400)
    weights = weights_of(truth, np.random.default_rng(seed)).astype(float)

    assert measure(metric, truth, said) == pytest.approx(SKLEARN[case](truth.y, said), rel=1e-9)
    assert prepare(metric, truth, said).at(weights) == pytest.approx(
        SKLEARN[case](truth.y, said, sample_weight=weights), rel=1e-9
    )


@pytest.mark.parametrize("k", [2, 5, 50])
def test_ndcg_has_the_value_that_scikit_learn_gives_for_each_query(k: int) -> None:
    truth, said = made("ranking", 5, 200)
    each = [
        theirs.ndcg_score([truth.y[rows]], [said[rows]], k=k)
        for query in np.unique(truth.queries)
        if len(rows := np.flatnonzero(truth.queries == query)) > 1 and truth.y[rows].max() > 0
    ]
    alone = [query for query in np.unique(truth.queries) if (truth.queries == query).sum() == 1]
    each += [1.0 for query in alone if truth.y[truth.queries == query][0] > 0]

    assert measure(f"ndcg@{k}", truth, said) == pytest.approx(np.mean(each), rel=1e-12)


@pytest.mark.parametrize("metric", ["auc", "average_precision"])
@pytest.mark.parametrize("seed", range(5))
def test_an_order_has_the_value_of_the_loop_under_weights(metric: str, seed: int) -> None:
    truth, said = made("classification", seed, 60)
    weights = weights_of(truth, np.random.default_rng(seed)).astype(float)

    expected = getattr(oracle, metric)(truth.y.tolist(), said.tolist(), weights.tolist())

    assert prepare(metric, truth, said).at(weights) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", ["survival", "hazards"])
@pytest.mark.parametrize("seed", range(8))
def test_concordance_has_the_value_of_the_loop_under_weights(kind: str, seed: int) -> None:
    truth, said = made(kind, seed, 50)
    weights = weights_of(truth, np.random.default_rng(seed)).astype(float)
    later = (-said if truth.risk else said).tolist()

    expected = oracle.concordance(truth.y.tolist(), truth.upper.tolist(), later, weights.tolist())

    assert prepare("concordance", truth, said).at(weights) == pytest.approx(expected, rel=1e-12)


def test_concordance_by_eye_compares_only_rows_whose_order_is_known() -> None:
    # 1 was seen at 2; 2 was censored at 2, so it lasted longer; 3 was censored at 1: nobody knows about it.
    truth = Truth(np.array([2.0, 2.0, 1.0]), "survival", upper=np.array([2.0, np.inf, np.inf]))

    assert measure("concordance", truth, np.array([1.0, 5.0, 0.0])) == 1.0
    assert measure("concordance", truth, np.array([5.0, 1.0, 0.0])) == 0.0
    assert np.isnan(measure("concordance", truth.take(np.array([1, 2])), np.array([1.0, 2.0])))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [1, 3, 20])
def test_rankings_and_the_top_of_an_order_have_the_mean_over_all_orders_of_ties(seed: int, k: int) -> None:
    truth, said = made("ranking", seed, 24)
    rows = np.concatenate([np.flatnonzero(truth.queries == query)[:6] for query in np.unique(truth.queries)])
    truth, said = truth.take(rows), said[rows]
    few, scores = made("anomaly", seed, 7)

    lists = truth.y.tolist(), said.tolist(), truth.queries.tolist(), k
    assert measure(f"ndcg@{k}", truth, said) == pytest.approx(oracle.ndcg_at(*lists), rel=1e-12)
    assert measure(f"map@{k}", truth, said) == pytest.approx(oracle.map_at(*lists), rel=1e-12)
    assert measure(f"precision@{k}", few, scores) == pytest.approx(
        oracle.precision_at(few.y.tolist(), scores.tolist(), k), rel=1e-12
    )


@pytest.mark.parametrize("seed", range(4))
def test_classes_and_quantiles_have_the_values_of_the_loops(seed: int) -> None:
    truth, said = made("quantile", seed, 40)
    classes, probabilities = made("multiclass", seed, 12)

    y, rows = truth.y.tolist(), said.tolist()
    assert measure("pinball", truth, said) == pytest.approx(oracle.pinball(y, rows, QUANTILES))
    assert measure("coverage_error", truth, said) == pytest.approx(oracle.coverage_error(y, rows, QUANTILES))
    assert measure("crossing", truth, said) == pytest.approx(oracle.crossing(rows, QUANTILES))
    named_ = [int(row.argmax()) for row in probabilities]
    expected = oracle.macro_f1([int(one) for one in classes.y], named_)
    assert measure("macro_f1", classes, probabilities) == pytest.approx(expected)


@pytest.mark.parametrize(("kind", "metric"), EACH)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 40))
def test_a_whole_weight_is_a_row_repeated_so_often(kind: str, metric: str, seed: int, rows: int) -> None:
    truth, said = made(kind, seed, rows)
    weights = weights_of(truth, np.random.default_rng(seed + 1))

    weighted = prepare(metric, truth, said).at(weights.astype(float))

    if not weights.any():
        assert np.isnan(weighted)
        return
    expected = measure(metric, *repeated(truth, said, weights))
    assert weighted == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(("kind", "metric"), EACH)
def test_weights_by_group_give_what_weights_by_row_give(kind: str, metric: str) -> None:
    truth, said = made(kind, 11, 300)
    random = np.random.default_rng(12)
    groups = random.integers(0, 9, 300)
    if truth.queries is not None:
        groups = random.integers(0, 9, int(truth.queries.max()) + 1)[truth.queries]
    measures = prepare(metric, truth, said)
    grouped = measures.by_group(groups, 9)
    again = grouped.by_group(np.arange(9) // 3, 3)

    for _ in range(20):
        weights, coarse = random.integers(0, 3, 9).astype(float), random.integers(1, 3, 3).astype(float)
        assert grouped.at(weights) == pytest.approx(measures.at(weights[groups]), rel=1e-9, nan_ok=True)
        assert again.at(coarse) == pytest.approx(measures.at(coarse[groups // 3]), rel=1e-9)


def test_the_auc_of_more_groups_than_a_table_holds_is_the_same() -> None:
    truth, said = made("classification", 2, 6000)
    groups, measures = np.arange(6000) // 2, prepare("auc", truth, said)
    weights = np.random.default_rng(3).integers(0, 3, 3000).astype(float)

    assert measures.by_group(groups, 3000).at(weights) == pytest.approx(measures.at(weights[groups]))


def test_what_is_not_defined_is_nan() -> None:
    y = np.array([1.0, 1.0])

    assert np.isnan(measure("auc", y, np.array([0.1, 0.2])))
    assert np.isnan(measure("average_precision", 1 - y, np.array([0.1, 0.2])))
    assert np.isnan(measure("r2", y, np.array([0.1, 0.2])))
    assert np.isnan(prepare("brier", y, y).at(np.zeros(2)))
    nothing_relevant = Truth(np.zeros(2), "ranking", queries=np.zeros(2, dtype=np.int64))
    assert np.isnan(measure("ndcg", nothing_relevant, y))
    one_class = Truth(np.zeros(2), "multiclass")
    assert np.isnan(measure("auc", one_class, np.full((2, 2), 0.5)))


def test_r2_of_a_target_far_from_zero_does_not_cancel() -> None:
    random = np.random.default_rng(5)
    noise = random.normal(size=1000)
    y = 1e9 + noise

    assert measure("r2", y, y + 0.1 * random.normal(size=1000)) == pytest.approx(0.99, abs=0.005)


def test_bare_labels_with_one_column_for_each_class_are_classes() -> None:
    truth, said = made("multiclass", 4, 90)

    assert measure("log_loss", truth.y, said) == measure("log_loss", truth, said)


def multiclass(y: list[float]) -> Truth:
    return Truth(np.array(y), "multiclass")


@pytest.mark.parametrize(
    ("metric", "y", "said", "message"),
    [
        ("acu", [0, 1], [0.1, 0.2], '"acu" is not a metric'),
        ("auc@3", [0, 1], [0.1, 0.2], '"auc@3" is not a metric: write "auc"'),
        ("precision", [0, 1], [0.1, 0.2], 'needs to know of how many rows, e.g. "precision@100"'),
        ("ndcg@0", [0, 1], [0.1, 0.2], "its k is a whole number above 0"),
        ("ndcg@10", [0, 1], [0.1, 0.2], "labels alone do not say how to measure ndcg@10"),
        ("auc", [0, 1], [0.1], "1 predictions were given for 2 rows"),
        ("auc", [0, 1], [0.1, np.nan], "some are NaN or infinite"),
        ("auc", [0, 2], [0.1, 0.2], "needs labels that are 0 or 1"),
        ("log_loss", [0, 1], [0.1, 1.2], "outside 0 to 1"),
        ("rmse", multiclass([0, 1]), [0.1, 0.2], 'does not measure the task "multiclass"'),
        ("auc", multiclass([0, 2]), [[0.5, 0.5], [0.5, 0.5]], "needs labels that are 0 to 1"),
        ("auc", multiclass([0, 1]), [[0.5, 0.4], [0.5, 0.5]], "some rows do not add up to 1"),
        ("rmse", Truth(np.zeros(2), "regression"), [[1, 2], [3, 4]], r"needs predictions of shape \(2,\)"),
        (
            "pinball",
            Truth(np.zeros(2), "quantile", quantiles=(0.1, 0.9)),
            [1, 2],
            r"one column of predictions for each of the quantiles \[0.1, 0.9\]",
        ),
        (
            "crossing",
            Truth(np.zeros(2), "quantile", quantiles=(0.5,)),
            [1, 2],
            "needs at least two quantiles",
        ),
        (
            "map",
            Truth(np.array([-1.0, 1.0]), "ranking", queries=np.array([1, 1])),
            [1, 2],
            "relevances of 0 or more",
        ),
    ],
)
def test_what_a_metric_is_not_defined_on_is_refused(metric: str, y, said: list, message: str) -> None:
    truth = y if isinstance(y, Truth) else np.array(y, dtype=float)

    with pytest.raises(TrainError, match=message):
        prepare(metric, truth, np.array(said, dtype=float))
