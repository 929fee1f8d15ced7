"""The metrics as loops over rows, written for reading: what ``mlflow_core.train.evaluation.metrics`` is held to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence


def auc(y: Sequence[float], scores: Sequence[float], weights: Sequence[float]) -> float:
    """The share of pairs of a positive and a negative in which the positive is ranked above; a tie counts half."""
    won = pairs = 0.0
    for positive, above, ours in zip(y, scores, weights, strict=True):
        for negative, below, theirs in zip(y, scores, weights, strict=True):
            if positive == 1 and negative == 0:
                pairs += ours * theirs
                won += ours * theirs * (1.0 if above > below else 0.5 if above == below else 0.0)
    return won / pairs


def average_precision(y: Sequence[float], scores: Sequence[float], weights: Sequence[float]) -> float:
    """Over the thresholds from the highest down: precision times how much of the positives was newly found."""
    rows = list(zip(y, scores, weights, strict=True))
    positives = sum(weight for label, _, weight in rows if label == 1)
    total = before = 0.0
    for threshold in sorted(set(scores), reverse=True):
        named = sum(weight for _, score, weight in rows if score >= threshold)
        found = sum(weight for label, score, weight in rows if score >= threshold and label == 1)
        if named > 0:
            total += (found - before) / positives * (found / named)
        before = found
    return total


def precision_at(y: Sequence[float], scores: Sequence[float], k: int) -> float:
    """The mean, over all orders of rows with equal scores, of the share of positives among the first k rows."""
    shares = [sum(y[row] == 1 for row in order[:k]) / min(k, len(y)) for order in orders(scores)]
    return sum(shares) / len(shares)


def macro_f1(y: Sequence[int], named: Sequence[int]) -> float:
    """The mean of F1 over the classes that are true or named somewhere."""
    figures = []
    for one in sorted({*y, *named}):
        hits = sum(a == one and b == one for a, b in zip(y, named, strict=True))
        precision = hits / named.count(one) if named.count(one) else 0.0
        recall = hits / y.count(one) if y.count(one) else 0.0
        figures.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    return sum(figures) / len(figures)


def ndcg_at(y: Sequence[float], scores: Sequence[float], queries: Sequence[int], k: int) -> float:
    """The mean over queries, and over all orders of equal scores, of the discounted gain over the best one."""
    figures = []
    for rows in lists(queries):
        best = discounted([y[row] for row in sorted(rows, key=lambda row: -y[row])], k)
        if best > 0:
            gains = [
                discounted([y[rows[n]] for n in order], k) for order in orders([scores[row] for row in rows])
            ]
            figures.append(sum(gains) / len(gains) / best)
    return sum(figures) / len(figures) if figures else float("nan")


def discounted(gains: Sequence[float], k: int) -> float:
    """Gains, each over the logarithm of its place."""
    return sum(gain / math.log2(place + 1) for place, gain in enumerate(gains[:k], 1))


def map_at(y: Sequence[float], scores: Sequence[float], queries: Sequence[int], k: int) -> float:
    """The mean over queries, and over all orders of equal scores, of the average precision of the first k rows."""
    figures = []
    for rows in lists(queries):
        relevant = sum(y[row] > 0 for row in rows)
        if relevant:
            each = []
            for order in orders([scores[row] for row in rows]):
                hits = [y[rows[n]] > 0 for n in order]
                precisions = [sum(hits[: n + 1]) / (n + 1) for n in range(min(k, len(hits))) if hits[n]]
                each.append(sum(precisions) / min(relevant, k))
            figures.append(sum(each) / len(each))
    return sum(figures) / len(figures) if figures else float("nan")


def lists(queries: Sequence[int]) -> list[list[int]]:
    """The rows of each query."""
    return [[row for row, of in enumerate(queries) if of == query] for query in sorted(set(queries))]


def orders(scores: Sequence[float]) -> list[tuple[int, ...]]:
    """All orders of the rows in which no row stands before one of a higher score."""
    return [
        order
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]


def pinball(y: Sequence[float], predictions: Sequence[Sequence[float]], quantiles: Sequence[float]) -> float:
    """The mean over rows and levels of what being off costs: the level if too low, the rest of 1 if too high."""
    costs = [
        level * (truth - said) if truth >= said else (1 - level) * (said - truth)
        for truth, row in zip(y, predictions, strict=True)
        for said, level in zip(row, quantiles, strict=True)
    ]
    return sum(costs) / len(costs)


def coverage_error(
    y: Sequence[float], predictions: Sequence[Sequence[float]], quantiles: Sequence[float]
) -> float:
    """How far the share of rows between the outermost predictions is from what the levels promise."""
    low, high = quantiles.index(min(quantiles)), quantiles.index(max(quantiles))
    inside = [row[low] <= truth <= row[high] for truth, row in zip(y, predictions, strict=True)]
    return abs(sum(inside) / len(inside) - (quantiles[high] - quantiles[low]))


def crossing(predictions: Sequence[Sequence[float]], quantiles: Sequence[float]) -> float:
    """The share of rows with a higher level predicted below a lower one."""
    crossed = [
        any(row[a] > row[b] for a, p in enumerate(quantiles) for b, q in enumerate(quantiles) if p < q)
        for row in predictions
    ]
    return sum(crossed) / len(crossed)


def concordance(
    lower: Sequence[float], upper: Sequence[float], later: Sequence[float], weights: Sequence[float]
) -> float:
    """Of the pairs in which it is known that one event came first, the share in which it was predicted earlier.

    ``later`` is greater for rows that are predicted to last longer; equal ones count half.
    """
    right = pairs = 0.0
    rows = list(zip(lower, upper, later, weights, strict=True))
    for _, happened_by, ours, our_weight in rows:
        for not_yet_at, until, theirs, their_weight in rows:
            known = happened_by < not_yet_at or (happened_by == not_yet_at and not_yet_at < until)
            if known:
                pairs += our_weight * their_weight
                right += (
                    our_weight * their_weight * (1.0 if ours < theirs else 0.5 if ours == theirs else 0.0)
                )
    return right / pairs if pairs else float("nan")
