"""Whether the test part looks like the training part: can a small model tell their rows apart, is the label as frequent?

Adversarial validation: a few shallow trees learn which part a row is from on one half and are measured on the other.
An AUC of 0.5 means that nothing tells them apart. A split in time nearly always drifts somewhat; what matters is by
how much, and through which features. Figures on a test part that drifted are still figures of that part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.train.data.preprocess import Preprocessing, as_floats
from mlflow_core.train.evaluation.findings import Finding, Severity, worst_first
from mlflow_core.train.evaluation.metrics import Floats, measure

__all__ = ["Drift", "DriftLimits", "find_drift"]

_ROUNDS, _DEPTH = 60, 3
_LEAST_ROWS = 50


@dataclass(frozen=True)
class DriftLimits:
    """From which figure on something is told. Conventions, as the leak checks' are.

    Args:
        info: AUC of telling the parts apart that is worth a word.
        warning: AUC that asks for a look at the features that it names.
        label_errors: Difference of the label's mean between the parts, in standard errors, that is not chance.
        label_shift: The same difference in standard deviations of the label, below which it is too small to matter.
    """

    info: float = 0.6
    warning: float = 0.75
    label_errors: float = 4.0
    label_shift: float = 0.1


@dataclass(frozen=True)
class Drift:
    """How different two parts are.

    Args:
        auc: How well a small model tells their rows apart, 0.5 to 1, on rows it did not see; NaN with too few rows.
        features: Each feature's share in telling them apart, the greatest first; they add up to 1.
        label: The label's mean in the training part and in the test part.
        findings: What is worth telling, the worst first.
    """

    auc: float
    features: tuple[tuple[str, float], ...]
    label: tuple[float, float]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-able values."""
        return {
            "auc": self.auc if np.isfinite(self.auc) else None,
            "features": dict(self.features),
            "label": [one if np.isfinite(one) else None for one in self.label],
            "findings": [one.to_json() for one in self.findings],
        }


def find_drift(
    preprocessing: Preprocessing,
    train: pa.Table,
    test: pa.Table,
    label: str,
    *,
    limits: DriftLimits | None = None,
    rows: int = 10_000,
    seed: int = 0,
) -> Drift:
    """Compare two parts.

    Args:
        preprocessing: The model's: which columns are features, and how they become numbers.
        train: Rows of the training part.
        test: Rows of the test part.
        label: The label's column: numbers or booleans.
        limits: From which figures on something is told.
        rows: Each part is sampled down to so many.
        seed: Seed of the samples and the trees.

    Raises:
        TrainError: A column is missing.
    """
    limits = limits or DriftLimits()
    random = np.random.default_rng(seed)
    matrices = [preprocessing.matrix(_sample(part, rows, random)) for part in (train, test)]
    auc, shares = _told_apart(preprocessing, matrices, random, seed)
    found = []
    if auc >= limits.info:
        named = ", ".join(f"{name} {share:.0%}" for name, share in shares[:4] if share >= 0.02)
        severity: Severity = "warning" if auc >= limits.warning else "info"
        sentence = f"A small model tells test rows from training rows with AUC {auc:.3f}, by {named}."
        found.append(Finding("drift", severity, "test", sentence, auc, limits.info))
    values = as_floats(train.column(label)), as_floats(test.column(label))
    shift = _label_shift(values, label, limits)
    means = tuple(float(np.nanmean(one)) if np.isfinite(one).any() else float("nan") for one in values)
    return Drift(auc, shares, (means[0], means[1]), worst_first([*found, *shift]))


def _sample(part: pa.Table, rows: int, random: np.random.Generator) -> pa.Table:
    if part.num_rows <= rows:
        return part
    return part.take(pa.array(np.sort(random.choice(part.num_rows, rows, replace=False))))


def _told_apart(
    preprocessing: Preprocessing,
    matrices: list[NDArray[np.float32]],
    random: np.random.Generator,
    seed: int,
) -> tuple[float, tuple[tuple[str, float], ...]]:
    """The AUC of shallow trees on the half they did not see, and each feature's share of their gain."""
    import xgboost

    if min(len(matrix) for matrix in matrices) < _LEAST_ROWS:
        return float("nan"), ()
    rows, y = np.concatenate(matrices), np.repeat([0.0, 1.0], [len(matrix) for matrix in matrices])
    half = random.random(len(y)) < 0.5
    weight = np.where(
        y == 1, 0.5 / y.mean(), 0.5 / (1 - y.mean())
    )  # a part counts alike, however many its rows
    types, names = preprocessing.xgboost_types, [f"f{n}" for n in range(rows.shape[1])]

    def held(chosen: NDArray[np.bool_]) -> Any:
        return xgboost.DMatrix(
            rows[chosen],
            label=y[chosen],
            weight=weight[chosen],
            missing=np.nan,
            feature_names=names,
            feature_types=types,
            enable_categorical=True,
        )

    settings = {
        "objective": "binary:logistic",
        "max_depth": _DEPTH,
        "learning_rate": 0.2,
        "nthread": 1,
        "seed": seed,
    }
    booster = xgboost.train(settings, held(half), num_boost_round=_ROUNDS)
    predicted = np.asarray(booster.predict(held(~half)), dtype=np.float64)
    gains = booster.get_score(importance_type="total_gain")
    own: dict[str, float] = {}
    for name, columns in preprocessing.slices.items():
        own[name] = float(sum(np.sum(gains.get(one, 0.0)) for one in names[columns]))
    total = sum(own.values()) or 1.0
    shares = sorted(((name, gain / total) for name, gain in own.items()), key=lambda one: (-one[1], one[0]))
    return max(0.5, measure("auc", y[~half], predicted)), tuple(shares)


def _label_shift(values: tuple[Floats, Floats], label: str, limits: DriftLimits) -> list[Finding]:
    """Whether the label's mean differs by more than chance, and by enough to matter (Welch)."""
    train, test = (one[np.isfinite(one)] for one in values)
    if min(len(train), len(test)) < _LEAST_ROWS or not (train.std() > 0 and test.std() > 0):
        return []
    difference = float(test.mean() - train.mean())
    errors = abs(difference) / float(np.sqrt(train.var() / len(train) + test.var() / len(test)))
    deviations = abs(difference) / float(train.std())
    if errors < limits.label_errors or deviations < limits.label_shift:
        return []
    sentence = (
        f'The mean of the label "{label}" went from {train.mean():.4g} in the training part to {test.mean():.4g} in the '
        f"test part: {deviations:.2f} standard deviations, {errors:.0f} standard errors. Probabilities and quantities "
        "that were right then may be too low or too high now."
    )
    return [Finding("label_shift", "warning", label, sentence, deviations, limits.label_shift)]
