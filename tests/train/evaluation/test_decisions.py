"""Thresholds and costs, held to a loop over all thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from mlflow_core.errors import TrainError
from mlflow_core.train.evaluation.decisions import Costs, cost_curve, thresholds


def made(rows: int = 400, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    p = np.round(random.beta(1, 3, rows), 2)  # many ties
    return (random.random(rows) < p).astype(float), p


def cost_at(y: np.ndarray, p: np.ndarray, threshold: float, costs: Costs) -> float:
    total = 0.0
    for truth, said in zip(y, p, strict=True):
        named = said >= threshold
        total += costs.false_alarm * (named and truth == 0) + costs.miss * (not named and truth == 1)
    return total / len(y)


@pytest.mark.parametrize("costs", [Costs(), Costs(miss=5.0), Costs(false_alarm=2.0, miss=0.5)])
def test_a_cost_curve_has_the_cost_of_the_loop_at_every_threshold(costs: Costs) -> None:
    y, p = made()

    found = cost_curve(y, p, costs)

    assert found.cost == pytest.approx([cost_at(y, p, one, costs) for one in found.thresholds])
    assert found.best_cost == pytest.approx(min(cost_at(y, p, one, costs) for one in np.unique(p)))
    assert found.best_cost == pytest.approx(cost_at(y, p, found.best, costs))
    assert found.calibrated_cost == pytest.approx(cost_at(y, p, costs.threshold, costs))
    assert found.blind_cost == pytest.approx(min(cost_at(y, p, 0.0, costs), cost_at(y, p, 2.0, costs)))
    assert (np.diff(found.thresholds) > 0).all()


def test_the_threshold_of_calibrated_probabilities_is_nearly_the_best_one() -> None:
    y, p = made(40_000)

    for costs in (Costs(), Costs(miss=3.0), Costs(miss=9.0)):
        found = cost_curve(y, p, costs)
        assert found.calibrated_cost <= 1.03 * found.best_cost
        assert found.best_cost < found.blind_cost


def test_a_thinned_curve_keeps_its_best_point() -> None:
    random = np.random.default_rng(3)
    p = random.random(5000)
    y = (random.random(5000) < p).astype(float)

    found = cost_curve(y, p, Costs(miss=2.0), points=20)

    assert len(found.cost) <= 21
    assert found.cost.min() == found.best_cost == cost_curve(y, p, Costs(miss=2.0), points=5000).best_cost


def test_thresholds_name_what_they_say() -> None:
    y, p = made()

    rows = thresholds(y, p)

    assert [one.threshold for one in rows] == sorted((one.threshold for one in rows), reverse=True)
    assert 0.5 in {one.threshold for one in rows}
    for one in rows:
        named = p >= one.threshold
        assert one.named == named.sum()
        assert one.share == pytest.approx(named.mean())
        assert one.precision == pytest.approx(y[named].mean())
        assert one.recall == pytest.approx(y[named].sum() / y.sum())
        assert one.false_alarms == pytest.approx((1 - y)[named].sum() / (1 - y).sum())
        assert one.f1 == pytest.approx(2 * y[named].sum() / (named.sum() + y.sum()))
    assert thresholds(y, np.full(400, 0.2))[0].named == 400


@pytest.mark.parametrize(("alarm", "miss"), [(0.0, 1.0), (1.0, -1.0), (1.0, float("inf"))])
def test_costs_that_are_not_above_zero_are_refused(alarm: float, miss: float) -> None:
    with pytest.raises(TrainError, match="are above 0"):
        Costs(alarm, miss)
