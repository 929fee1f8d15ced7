"""The truth of each task, and evaluations that need more than labels."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import Sklearn, Torch, XGBoost
from mlflow_core.train.evaluation.bootstrap import DAY_US
from mlflow_core.train.evaluation.evaluate import evaluate
from mlflow_core.train.evaluation.metrics import measure
from mlflow_core.train.evaluation.truth import Truth, truth_of
from tests.oracle import metrics as oracle
from tests.train.evaluation.cases import made

ROWS = pa.table(
    {
        "y": [1.0, 0.0, 2.0],
        "z": [4.0, 5.0, 6.0],
        "late": [True, False, True],
        "query": ["b", "a", "b"],
        "from": [1.0, 2.0, 3.0],
        "to": [1.0, None, 5.0],
        "signed": [3.0, -4.0, 5.0],
    }
)


def test_the_truth_is_read_from_the_columns_that_the_trainer_names() -> None:
    binary = truth_of(XGBoost(), ROWS, "late")
    classes = truth_of(XGBoost(objective="multi:softprob", classes=3), ROWS, "y", outputs=("0", "1", "2"))
    both = truth_of(XGBoost(objective="reg:squarederror", targets=("z",)), ROWS, "y")
    levels = truth_of(XGBoost(objective="reg:quantileerror", quantiles=(0.1, 0.9)), ROWS, "y")
    ranked = truth_of(XGBoost(objective="rank:ndcg", group="query"), ROWS, "y")
    lasting = truth_of(XGBoost(objective="survival:aft", bounds=("from", "to")), ROWS, "y")
    hazard = truth_of(XGBoost(objective="survival:cox"), ROWS, "signed")

    assert (binary.task, binary.y.tolist(), binary.binary) == ("classification", [1, 0, 1], True)
    assert (classes.task, classes.classes) == ("multiclass", ("0", "1", "2"))
    assert both.y.tolist() == [[1, 4], [0, 5], [2, 6]]
    assert (levels.task, levels.quantiles) == ("quantile", (0.1, 0.9))
    assert ranked.queries is not None
    assert ranked.queries.tolist() == [2, 1, 2]
    assert lasting.upper is not None
    assert (lasting.y.tolist(), lasting.upper.tolist(), lasting.risk) == ([1, 2, 3], [1, np.inf, 5], False)
    assert hazard.upper is not None
    assert (hazard.y.tolist(), hazard.upper.tolist(), hazard.risk) == ([3, 4, 5], [3, np.inf, 5], True)


def test_every_trainer_has_a_task() -> None:
    assert truth_of(Sklearn(estimator="sklearn.svm:SVC", objective="anomaly"), ROWS, "late").task == "anomaly"
    assert truth_of(Torch(module="a:B", objective="binary"), ROWS, "late").task == "classification"
    assert truth_of(Torch(module="a:B", objective="quantile", quantiles=(0.5,)), ROWS, "y").quantiles == (
        0.5,
    )
    found = truth_of(Torch(module="a:B", objective="retrieval"), ROWS, "y", group="query")
    assert found.task == "ranking"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: truth_of(XGBoost(), ROWS, "lat"), r'no column "lat".*Did you mean "late"'),
        (lambda: truth_of(XGBoost(), ROWS, "to"), '"to" is missing or infinite in 1 of 3 rows'),
        (lambda: truth_of(XGBoost(objective="rank:ndcg"), ROWS, "y"), "no queries were given"),
        (
            lambda: Truth(np.zeros(2), "ranking", queries=np.zeros(3, np.int64)),
            "queries has 3 values for 2 rows",
        ),
        (lambda: Truth(np.zeros(2), "survival"), "needs the latest time of each event"),
        (lambda: Truth(np.ones(2), "survival", upper=np.zeros(2)), "its upper bound is below its lower one"),
        (lambda: Truth(np.zeros(2), "quantile", quantiles=(1.5,)), "quantile levels lie between 0 and 1"),
    ],
)
def test_a_truth_that_cannot_be_is_refused(make, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        make()


def test_a_ranking_is_resampled_by_whole_queries() -> None:
    random = np.random.default_rng(3)
    queries = random.integers(100, 112, 60)
    y, good = random.integers(0, 3, 60).astype(float), np.round(random.random(60), 2)
    poor = np.round(random.random(60), 2)
    truth = Truth(y, "ranking", queries=queries)

    found = evaluate(truth, {"good": good + y / 3, "poor": poor}, ["ndcg@3"], count=40, seed=5)

    numbers, draw, differences = np.unique(queries), np.random.default_rng(5), []
    for _ in range(40):
        drawn = draw.integers(0, len(numbers), len(numbers), dtype=np.int32)
        rows = [np.flatnonzero(queries == numbers[query]) for query in drawn]
        of = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
        flat = np.concatenate(rows)
        each = [
            measure("ndcg@3", Truth(y[flat], "ranking", queries=of), said[flat])
            for said in (good + y / 3, poor)
        ]
        differences.append(each[0] - each[1])
    interval = found.difference("ndcg@3", "good", "poor")
    assert (found.unit, found.queries, found.positives) == ("query", len(numbers), None)
    assert [interval.low, interval.high] == pytest.approx(np.quantile(differences, [0.025, 0.975]))
    json.dumps(found.to_json(), allow_nan=False)


def test_queries_of_many_days_are_resampled_by_day_and_beside_it_by_query() -> None:
    truth, said = made("ranking", 4, 400)
    times = (truth.queries % 15) * DAY_US

    found = evaluate(truth, {"m": said}, ["ndcg", "map@3"], times=times, count=350)

    assert (found.unit, found.days) == ("day", 15)
    assert set(found.draws) == {"query", "day"}
    assert found.draws["query"].shape[2] == 300
    assert found.score("map@3", unit="query").low < found.score("map@3").value


@pytest.mark.parametrize("kind", ["multiclass", "regression", "targets", "quantile", "survival", "anomaly"])
def test_every_task_has_intervals_slices_and_differences(kind: str) -> None:
    from mlflow_core.spec.metric import DEFAULT_METRICS

    truth, said = made(kind, 7, 600)
    random = np.random.default_rng(1)
    other = said[random.permutation(600)]
    parts = pa.table({"half": random.choice(["a", "b"], 600)})
    metrics = DEFAULT_METRICS[truth.task]

    found = evaluate(truth, {"m": said, "other": other}, metrics, parts, count=60)

    assert found.task == truth.task
    for metric in metrics:
        score = found.score(metric)
        if metric == "coverage_error":  # a distance from what is promised: resamples may all be farther
            assert 0 <= score.low < score.high <= 1
            assert score.value < score.high
        else:
            assert score.low <= score.value <= score.high
    assert found.difference(metrics[0], "m", "other").low > 0
    assert [one.value for one in found.slices] == ["a", "b"]
    inside = np.flatnonzero(np.array(parts["half"].to_pylist()) == "a")
    assert found.slices[0].metrics[metrics[0]].value == measure(metrics[0], truth.take(inside), said[inside])
    json.dumps(found.to_json(), allow_nan=False)


def test_an_interval_of_concordance_is_that_of_rows_copied() -> None:
    truth, said = made("survival", 9, 60)

    found = evaluate(truth, {"m": said}, ["concordance"], count=30, seed=2).score("concordance")

    draw, values = np.random.default_rng(2), []
    for _ in range(30):
        rows = draw.integers(0, 60, 60, dtype=np.int32)
        values.append(
            oracle.concordance(
                truth.y[rows].tolist(), truth.upper[rows].tolist(), said[rows].tolist(), [1.0] * 60
            )
        )
    assert [found.low, found.high] == pytest.approx(np.quantile(values, [0.025, 0.975]))
