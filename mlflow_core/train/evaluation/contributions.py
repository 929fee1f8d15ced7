"""What each feature did to each prediction: SHAP values, which add up to the prediction (Lundberg and Lee, 2017).

Trees give them exactly and fast: XGBoost's own TreeSHAP (Lundberg et al., "From local explanations to global
understanding with explainable AI for trees", 2020), on the scale on which trees are added up: log-odds for
probabilities. A sequence's columns are added up to one feature. Other models are not explained row by row: without
their structure it takes thousands of predictions a row, and ``importance`` says what each feature is worth to them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.evaluation.importance import sampled
from mlflow_core.train.evaluation.metrics import Floats
from mlflow_core.train.models.booster import BoosterScorer
from mlflow_core.train.models.model import Model

__all__ = ["Contributions", "contributions"]

_ROWS_TIMES_TREES, _FEW_ROWS = 100_000, 100


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
    """

    features: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Floats
    base: Floats
    levels: Floats
    unit: str

    def strength(self) -> Floats:
        """The mean absolute contribution, (outputs, features)."""
        strength: Floats = np.abs(self.values).mean(axis=0)
        return strength

    def order(self) -> NDArray[np.int64]:
        """Positions of the features, the strongest first."""
        return np.argsort(-self.strength().sum(axis=0), kind="stable")


def contributions(model: Model, table: pa.Table, *, rows: int = 1000, seed: int = 0) -> Contributions:
    """Explain a sample of rows.

    Args:
        model: The model.
        table: Rows with its features.
        rows: At most so many are sampled: fewer of a model of many trees, so that it takes seconds.
        seed: Seed of the sample.

    Raises:
        TrainError: There are no rows, or the model is not made of trees with one value a leaf.
    """
    scorer = model.scorer
    if not isinstance(scorer, BoosterScorer):
        raise TrainError(
            f"a model of the kind {model.kind} has no contributions: they come from trees",
            hint="Use importance(model, ...), which any model has.",
        )
    if not scorer.explains:
        raise TrainError(
            "trees with several values a leaf have no contributions",
            hint='Train without params={"multi_strategy": "multi_output_tree"}, or use importance(model, ...).',
        )
    if not table.num_rows:
        raise TrainError("there are no rows to explain")
    trees = scorer.rounds * max(1, len(model.outputs))
    most = min(rows, max(_FEW_ROWS, _ROWS_TIMES_TREES // max(1, trees)))
    chosen = sampled(None, table.num_rows, most, np.random.default_rng(seed))
    matrix = model.preprocessing.matrix(table.take(pa.array(chosen)))
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
