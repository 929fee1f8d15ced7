"""What each feature did to each prediction: SHAP values, which add up to the prediction (Lundberg and Lee, 2017).

Trees give them exactly and fast: XGBoost's own TreeSHAP (Lundberg et al., "From local explanations to global
understanding with explainable AI for trees", 2020), on the scale on which trees are added up: log-odds for
probabilities. Any other model is asked for predictions of mixed rows (``shapley``), some 50,000 of them, and its
values are on the scale of what it predicts, with standard errors. A sequence's columns are one feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.evaluation.importance import sampled
from mlflow_core.train.evaluation.metrics import Floats
from mlflow_core.train.evaluation.shapley import plan_shapley, shapley
from mlflow_core.train.models.booster import BoosterScorer
from mlflow_core.train.models.model import Model

__all__ = ["Contributions", "Method", "contributions"]

_ROWS_TIMES_TREES, _FEW_ROWS = 100_000, 100

Method = Literal["trees", "enumerated", "sampled"]
"""How contributions were found: off the trees, from every combination of features, from random orders of them."""


@dataclass(frozen=True)
class Contributions:
    """What features did to predictions.

    Args:
        features: Their names.
        outputs: The predictions' names; one empty name where there is one a row.
        values: (rows, outputs, features): what each added to the prediction.
        base: The prediction without any feature, (outputs,).
        levels: (rows, features): each feature's value as its place among the sample's, 0 to 1; NaN where it is missing
            or is a category or a sequence.
        unit: What the values are measured in.
        method: How they were found.
        errors: Standard errors of ``values``, of the same shape; None where they are exact.
        background: How many background rows stand for a missing feature; 0 where none does.
        left_out: Rows without contributions: the model gives them, mixed with others, no finite prediction.
    """

    features: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Floats
    base: Floats
    levels: Floats
    unit: str
    method: Method = "trees"
    errors: Floats | None = None
    background: int = 0
    left_out: int = 0

    def strength(self) -> Floats:
        """The mean absolute contribution, (outputs, features)."""
        strength: Floats = np.abs(self.values).mean(axis=0)
        return strength

    def by_feature(self) -> dict[str, float]:
        """Each feature's mean absolute contribution, those to several outputs added up."""
        return dict(zip(self.features, self.strength().sum(axis=0).tolist(), strict=True))

    def order(self) -> NDArray[np.int64]:
        """Positions of the features, the strongest first."""
        return np.argsort(-self.strength().sum(axis=0), kind="stable")

    def told(self) -> str:
        """How they were found, of how many rows and how exactly, for a reader."""
        told = f"SHAP values of a sample of {len(self.values):,} rows"
        if self.errors is None:
            return f"{told}, off the trees (TreeSHAP)."
        how = "in every combination" if self.method == "enumerated" else "in a random order and its reverse"
        told += f", by predictions: features join each of {self.background:,} background rows {how}."
        if np.isfinite(self.errors).all():
            mean = self.errors.mean(axis=(0, 1))
            worst = int(mean.argmax())
            told += f" Standard error of a value: {mean.mean():.2g} on average, {mean[worst]:.2g} for {self.features[worst]}."
        if self.left_out:
            told += f" {self.left_out:,} more rows have none: mixed with others, their predictions are not finite."
        return told


def contributions(
    model: Model,
    table: pa.Table,
    *,
    rows: int = 1000,
    background: int = 64,
    budget: int | None = None,
    seed: int = 0,
) -> Contributions:
    """Explain a sample of rows.

    Args:
        model: The model.
        table: Rows with its features.
        rows: At most so many are sampled: fewer of a model of many trees, or, of another one, of many features, so that
            it takes seconds.
        background: At most so many rows of the table stand for features that are not known, where it is not made of
            trees: their mean prediction is what contributions are added to.
        budget: At most so many predictions then, None as ``plan_shapley`` says; with more, and a greater ``background``,
            standard errors are smaller.
        seed: Seed of the samples and of the orders of features.

    Raises:
        TrainError: There are no rows, or none that the model gives finite predictions; or none are asked for.
    """
    if min(rows, background) < 1:
        raise TrainError(
            f"{rows:,} rows cannot be explained against {background:,}", expected="at least one of each"
        )
    if not table.num_rows:
        raise TrainError("there are no rows to explain")
    if isinstance(model.scorer, BoosterScorer) and model.scorer.explains:
        return _by_trees(model, model.scorer, table, rows, np.random.default_rng(seed))
    return _by_predictions(model, table, rows, background, budget, np.random.default_rng(seed))


def _by_trees(
    model: Model, scorer: BoosterScorer, table: pa.Table, rows: int, random: np.random.Generator
) -> Contributions:
    trees = scorer.rounds * max(1, len(model.outputs))
    most = min(rows, max(_FEW_ROWS, _ROWS_TIMES_TREES // max(1, trees)))
    matrix = model.preprocessing.matrix(table.take(pa.array(sampled(None, table.num_rows, most, random))))
    values, base = _of_booster(model, scorer, matrix)
    slices = model.preprocessing.slices
    return Contributions(
        features=tuple(slices),
        outputs=model.outputs or ("",),
        values=np.stack([values[:, :, columns].sum(axis=2) for columns in slices.values()], axis=2),
        base=base,
        levels=_levels(model, matrix),
        unit="log-odds" if model.task in ("classification", "multiclass") else "units of the trees' sum",
    )


def _of_booster(model: Model, scorer: BoosterScorer, matrix: NDArray[np.float32]) -> tuple[Floats, Floats]:
    import xgboost

    booster = xgboost.Booster(model_file=bytearray(scorer.ubj))
    rows = xgboost.DMatrix(
        matrix,
        feature_names=list(model.preprocessing.columns),
        feature_types=model.preprocessing.xgboost_types,
        missing=np.nan,
        enable_categorical=True,
    )
    found = np.asarray(booster.predict(rows, pred_contribs=True, strict_shape=True), dtype=np.float64)
    return found[:, :, :-1], found[:, :, -1].mean(axis=0)


def _by_predictions(
    model: Model, table: pa.Table, rows: int, background: int, budget: int | None, random: np.random.Generator
) -> Contributions:
    preprocessing, there = model.preprocessing, table.num_rows
    plan = plan_shapley(
        len(preprocessing.slices), rows=min(rows, there), background=min(background, there), budget=budget
    )
    chosen, behind = (sampled(None, there, count, random) for count in (plan.rows, plan.background))
    matrix = preprocessing.matrix(table.take(pa.array(chosen)))
    found = shapley(
        model.score,
        matrix,
        preprocessing.matrix(table.take(pa.array(behind))),
        tuple(preprocessing.slices.values()),
        exact=plan.exact,
        random=random,
    )
    known = np.isfinite(found.values).all(axis=(1, 2))
    if not known.any():
        raise TrainError(
            f"none of {len(matrix):,} rows can be explained: mixed with {plan.background:,} others, the model's "
            "predictions are not finite",
            expected="finite predictions",
        )
    return Contributions(
        features=preprocessing.names,
        outputs=model.outputs or ("",),
        values=found.values[known],
        base=found.base,
        levels=_levels(model, matrix[known]),
        unit=_unit(model),
        method="enumerated" if plan.exact else "sampled",
        errors=found.errors[known],
        background=plan.background,
        left_out=int((~known).sum()),
    )


def _unit(model: Model) -> str:
    """What the model's predictions are measured in."""
    if model.task in ("classification", "multiclass"):
        return "probability"
    of_label = model.task == "quantile" or (model.task == "regression" and not model.outputs)
    return f"units of {model.label}" if of_label and model.label else "units of the prediction"


def _levels(model: Model, matrix: NDArray[np.float32]) -> Floats:
    levels = np.full((len(matrix), len(model.preprocessing.slices)), np.nan)
    for place, feature in enumerate(model.preprocessing.features):
        columns = model.preprocessing.slices[feature.name]
        if feature.kind == "category" or columns.stop - columns.start > 1:
            continue
        values = matrix[:, columns.start]
        known = np.isfinite(values)
        if known.any():
            ranks = np.unique(values[known], return_inverse=True)[1]
            levels[known, place] = ranks / max(1, int(ranks.max()))
    return levels
