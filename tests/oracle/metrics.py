"""The metrics as loops over rows, written for reading: what ``mlflow_core.train.metrics`` is held to."""

from __future__ import annotations

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
