"""Evaluation: intervals that cover, differences that are paired, slices, curves and gates."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.errors import GateFailed, TrainError
from mlflow_core.spec.pipeline import Gate
from mlflow_core.train.evaluation.bootstrap import DAY_US, day_of
from mlflow_core.train.evaluation.curves import calibration, roc
from mlflow_core.train.evaluation.evaluate import Evaluation, evaluate
from mlflow_core.train.evaluation.gate import judge
from mlflow_core.train.evaluation.metrics import measure
from tests.oracle import metrics as oracle


def made(rows: int = 3000, seed: int = 3) -> tuple[np.ndarray, dict[str, np.ndarray], pa.Table, np.ndarray]:
    random = np.random.default_rng(seed)
    z = random.normal(size=rows)
    p = 1 / (1 + np.exp(1.2 - 1.3 * z))
    y = (random.random(rows) < p).astype(float)
    weaker = np.clip(p + random.normal(0, 0.15, rows), 0.001, 0.999)
    columns = pa.table(
        {"origin": random.choice(["EWR", "JFK", "LGA"], rows), "carrier": ["UA"] * (rows - 30) + ["HA"] * 30}
    )
    times = np.sort(random.integers(0, 40 * DAY_US, rows))
    return y, {"model": p, "weaker": weaker, "rate": np.full(rows, y.mean())}, columns, times


@pytest.fixture(scope="module")
def found() -> Evaluation:
    y, predictions, columns, times = made()
    return evaluate(y, predictions, ["auc", "log_loss"], columns, times=times, count=300, seed=7)


def test_figures_are_those_of_all_rows_and_lie_in_their_intervals(found: Evaluation) -> None:
    y, predictions, _, _ = made()

    for metric in ("auc", "log_loss"):
        for unit in ("row", "day"):
            score = found.score(metric, "model", unit=unit)
            assert score.value == pytest.approx(measure(metric, y, predictions["model"]))
            assert score.low < score.value < score.high
    assert (found.rows, found.positives, found.days, found.unit) == (3000, int(y.sum()), 40, "day")


def test_the_same_seed_gives_the_same_intervals_and_another_one_does_not(found: Evaluation) -> None:
    y, predictions, _, times = made()

    again = evaluate(y, predictions, ["auc", "log_loss"], times=times, count=300, seed=7)
    other = evaluate(y, predictions, ["auc", "log_loss"], times=times, count=300, seed=8)

    assert again.score("auc") == found.score("auc")
    assert other.score("auc") != found.score("auc")


def test_a_row_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(100):
        random = np.random.default_rng(1000 + seed)
        y, p = (random.random(300) < 0.3).astype(float), np.full(300, 0.5)
        found = evaluate(y, {"half": p}, ["accuracy"], count=300, seed=seed).score("accuracy")
        covered += found.low <= 0.3 <= found.high

    assert 88 <= covered <= 100


def test_a_paired_interval_by_days_is_that_of_a_loop_that_copies_whole_days() -> None:
    random = np.random.default_rng(23)
    times = np.sort(random.integers(0, 12 * DAY_US, 240))
    y = (random.random(240) < 0.4).astype(float)
    good = np.round(y * 0.3 + random.random(240), 1)  # ties on purpose
    poor = np.round(random.random(240), 1)

    found = evaluate(y, {"good": good, "poor": poor}, ["auc"], times=times, count=40, seed=5)

    days, draw = times // DAY_US, np.random.default_rng(5)
    assert len(np.unique(days)) == 12
    differences = []
    for _ in range(40):
        drawn = draw.integers(0, 12, 12, dtype=np.int32)
        rows = np.concatenate([np.flatnonzero(days == day) for day in drawn])
        once = [1.0] * len(rows)
        differences.append(oracle.auc(y[rows], good[rows], once) - oracle.auc(y[rows], poor[rows], once))
    interval = found.difference("auc", "good", "poor")
    assert found.unit == "day"
    assert [interval.low, interval.high] == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=1e-12)


def test_days_that_share_their_luck_give_wider_intervals_than_rows() -> None:
    random = np.random.default_rng(4)
    days = np.repeat(np.arange(30), 100)
    y = (random.random(3000) < np.clip(0.3 + random.normal(0, 0.2, 30), 0, 1)[days]).astype(float)

    found = evaluate(y, {"half": np.full(3000, 0.5)}, ["brier", "accuracy"], times=days * DAY_US, count=300)

    width = {
        unit: np.subtract(*[getattr(found.score("accuracy", unit=unit), end) for end in ("high", "low")])
        for unit in ("row", "day")
    }
    assert width["day"] > 2 * width["row"]


def test_differences_are_paired_and_point_upwards_when_the_model_is_better(found: Evaluation) -> None:
    for metric in ("auc", "log_loss"):
        better = found.difference(metric, "model", "weaker")
        apart = found.score(metric, "model"), found.score(metric, "weaker")
        assert better.low > 0
        assert better.high - better.low < sum(one.high - one.low for one in apart) / 2
        assert found.difference(metric, "weaker", "model").value == -better.value
    assert found.difference("auc", "model", "model").high == 0.0


def test_slices_partition_the_rows_and_small_ones_are_marked(found: Evaluation) -> None:
    by = {(one.column, one.value): one for one in found.slices}

    assert sum(one.rows for one in found.slices if one.column == "origin") == 3000
    assert by["carrier", "HA"].small
    assert not by["origin", "JFK"].small
    assert by["origin", "JFK"].metrics["auc"].low < by["origin", "JFK"].metrics["auc"].value
    json.dumps(found.to_json(), allow_nan=False)


def test_a_day_number_leaves_out_days_without_rows() -> None:
    assert day_of(np.array([0, DAY_US - 1, DAY_US, 9 * DAY_US])).tolist() == [0, 0, 1, 2]


def test_what_cannot_be_evaluated_is_refused(found: Evaluation) -> None:
    with pytest.raises(TrainError, match='the label has no positive in the part "test" \\(3 rows'):
        evaluate(np.zeros(3), {"m": np.full(3, 0.5)}, ["auc"])
    with pytest.raises(TrainError, match="nothing to evaluate"):
        evaluate(np.zeros(0), {"m": np.zeros(0)}, ["auc"])
    with pytest.raises(TrainError, match="the slices have 1 rows, the labels 2"):
        evaluate(np.array([0, 1]), {"m": np.full(2, 0.5)}, ["auc"], pa.table({"a": [1]}))
    with pytest.raises(TrainError, match=r'the model "modle" was not measured.*Did you mean "model"'):
        found.score("auc", "modle")


def test_a_gate_passes_a_better_model_and_says_why_it_fails_a_worse_one(found: Evaluation) -> None:
    gate = Gate(
        metric="auc",
        better_than="baselines",
        margin=0.01,
        at_least={"log_loss": 0.6},
        worst_slice={"auc": 0.6},
    )
    good = judge(gate, found, baselines=["weaker", "rate"])

    y, predictions, columns, times = made()
    worse = {"model": predictions["weaker"], "champion": predictions["model"]}
    bad = judge(
        Gate(metric="auc", better_than="champion", at_least={"auc": 0.99}),
        evaluate(y, worse, ["auc"], columns, times=times, count=200),
        champion="champion",
    )

    assert good.passed
    assert [check.name for check in good.checks] == [
        "auc better than weaker",
        "auc better than rate",
        "log_loss at most 0.6",
        "auc of the worst origin at least 0.6",
        "auc of the worst carrier at least 0.6",
    ]
    assert not bad.passed
    with pytest.raises(
        GateFailed, match="auc of model is not better than champion's by more than 0: difference -"
    ):
        bad.raise_if_failed("late_arrival")
    json.dumps([good.to_json(), bad.to_json()], allow_nan=False)


def test_a_first_model_has_no_champion_and_a_small_slice_cannot_fail_it(found: Evaluation) -> None:
    result = judge(Gate(better_than="champion", worst_slice={"auc": 0.6}), found, champion=None)

    assert result.passed
    assert {tuple(check.evidence.get("too_small", ())) for check in result.checks} == {(), ("HA",)}


def test_the_margin_is_held_against_the_lower_end_of_the_interval(found: Evaluation) -> None:
    better = found.difference("auc", "model", "weaker")

    for margin, passes in ((better.low - 1e-6, True), (better.low + 1e-6, False)):
        gate = Gate(better_than="baselines", margin=margin)
        assert judge(gate, found, baselines=["weaker"]).passed is passes


def test_a_share_lies_within_its_interval_also_where_all_rows_of_a_bin_are_of_one_class() -> None:
    for rows in range(10, 400):
        for label in (0.0, 1.0):
            bins = calibration(np.full(rows, label), np.linspace(0.1, 0.9, rows), bins=1).bins
            assert bins[0].low <= label <= bins[0].high


def test_a_calibrated_model_has_slope_one_and_an_over_confident_one_less() -> None:
    y, predictions, _, _ = made(20_000)
    p = predictions["model"]
    sharp = 1 / (1 + np.exp(-2 * np.log(p / (1 - p))))

    good, bad = calibration(y, p), calibration(y, sharp)

    assert good.slope == pytest.approx(1, abs=0.08)
    assert good.intercept == pytest.approx(0, abs=0.08)
    assert bad.slope == pytest.approx(0.5, abs=0.05)
    assert good.error < 0.02 < bad.error
    assert sum(one.rows for one in good.bins) == 20_000
    assert len(calibration(y, np.full(20_000, 0.25)).bins) == 1


def test_the_area_under_the_roc_points_is_the_auc() -> None:
    y, predictions, _, _ = made()

    x, h = roc(y, predictions["weaker"], points=10_000)

    assert (x[0], h[0], x[-1], h[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(h, x) == pytest.approx(measure("auc", y, predictions["weaker"]))
