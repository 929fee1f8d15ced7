"""What it costs to act on a classifier's predictions: thresholds, what they name, and what their mistakes cost.

A row is named where its prediction reaches the threshold. A false alarm is a negative that was named, a miss a
positive that was not, each with its cost; the expected cost a row is their sum over the rows. With calibrated
probabilities the best threshold is known without looking: ``false_alarm / (false_alarm + miss)`` (Elkan, "The
Foundations of Cost-Sensitive Learning", IJCAI 2001). This is the plain form, over thresholds at given costs; Drummond
and Holte's cost curves (2006) show the best threshold's cost over all costs instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlflow_core.errors import TrainError
from mlflow_core.train.evaluation.metrics import Floats

__all__ = ["CostCurve", "Costs", "Threshold", "cost_curve", "thresholds"]

_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Costs:
    """What a mistake of each kind costs, in any one unit.

    Args:
        false_alarm: A negative that was named.
        miss: A positive that was not.

    Raises:
        TrainError: One is not above 0.
    """

    false_alarm: float = 1.0
    miss: float = 1.0

    def __post_init__(self) -> None:
        if not (self.false_alarm > 0 and self.miss > 0 and np.isfinite([self.false_alarm, self.miss]).all()):
            raise TrainError("costs of false alarms and misses are above 0", expected="two positive numbers")

    @property
    def threshold(self) -> float:
        """The best threshold of calibrated probabilities (Elkan)."""
        return self.false_alarm / (self.false_alarm + self.miss)


@dataclass(frozen=True)
class CostCurve:
    """The expected cost a row, over thresholds.

    Args:
        costs: Of one mistake of each kind.
        thresholds: Rising, (m,); thinned, the best one kept.
        cost: Expected cost a row at each, (m,).
        best: The threshold with the least cost on these rows: a little better than on any others.
        best_cost: Its cost.
        calibrated_cost: Cost at ``costs.threshold``, which was chosen without looking at these rows.
        blind_cost: The lesser cost of naming all rows and of naming none.
    """

    costs: Costs
    thresholds: Floats
    cost: Floats
    best: float
    best_cost: float
    calibrated_cost: float
    blind_cost: float


@dataclass(frozen=True)
class Threshold:
    """What a threshold names.

    Args:
        threshold: Least prediction that is named.
        named: How many rows it names.
        share: Their share of all rows.
        precision: The share of positives among them; NaN where none is named.
        recall: The share of all positives that are named.
        false_alarms: The share of all negatives that are named.
        f1: Harmonic mean of precision and recall.
    """

    threshold: float
    named: int
    share: float
    precision: float
    recall: float
    false_alarms: float
    f1: float


def cost_curve(y: Floats, predictions: Floats, costs: Costs, *, points: int = 300) -> CostCurve:
    """Measure the expected cost a row over all thresholds.

    Args:
        y: The truth, 0 or 1, (n,).
        predictions: Probabilities, (n,).
        costs: What mistakes cost.
        points: About how many thresholds are kept.

    Example:
        >>> curve = cost_curve(np.array([0.0, 1.0]), np.array([0.2, 0.7]), Costs(miss=3.0))
        >>> curve.best, curve.best_cost, curve.blind_cost
        (0.7, 0.0, 0.5)
    """
    at, named, found = _counts(y, predictions)
    positives = float(y.sum())
    cost = (costs.false_alarm * (named - found) + costs.miss * (positives - found)) / len(y)
    best = int(cost.argmin())
    kept = np.unique(np.append(np.linspace(0, len(at) - 1, min(points, len(at))).round().astype(int), best))
    there = predictions >= costs.threshold
    calibrated = costs.false_alarm * float((there & (y == 0)).sum()) + costs.miss * float(
        (~there & (y == 1)).sum()
    )
    blind = min(costs.false_alarm * (len(y) - positives), costs.miss * positives)
    return CostCurve(
        costs=costs,
        thresholds=at[kept][::-1],
        cost=cost[kept][::-1],
        best=float(at[best]),
        best_cost=float(cost[best]),
        calibrated_cost=calibrated / len(y),
        blind_cost=blind / len(y),
    )


def thresholds(y: Floats, predictions: Floats, *, shares: Sequence[float] = _SHARES) -> tuple[Threshold, ...]:
    """Say what thresholds name that pick about given shares of the rows, and 0.5; the highest first.

    Args:
        y: The truth, 0 or 1, (n,).
        predictions: Scores, (n,).
        shares: Shares of all rows, each above 0 and at most 1.
    """
    at, named, found = _counts(y, predictions)
    positives, negatives = float(y.sum()), float(len(y) - y.sum())
    places = {int(np.searchsorted(named, max(1.0, share * len(y)), side="left")) for share in shares}
    half = int(np.searchsorted(-at, -0.5, side="right")) - 1
    rows = []
    for place in sorted({min(one, len(at) - 1) for one in places} | ({half} if half >= 0 else set())):
        hits, said = float(found[place]), float(named[place])
        rows.append(
            Threshold(
                threshold=0.5 if place == half and place not in places else float(at[place]),
                named=int(said),
                share=said / len(y),
                precision=hits / said,
                recall=hits / positives if positives else float("nan"),
                false_alarms=(said - hits) / negatives if negatives else float("nan"),
                f1=2 * hits / (said + positives),
            )
        )
    return tuple(rows)


def _counts(y: Floats, predictions: Floats) -> tuple[Floats, Floats, Floats]:
    """Each distinct prediction as a threshold, the highest first: rows named, positives among them."""
    order = np.argsort(-predictions, kind="stable")
    ordered = predictions[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    return ordered[ends], (ends + 1).astype(np.float64), np.cumsum(y[order])[ends]
