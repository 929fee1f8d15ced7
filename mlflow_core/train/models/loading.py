"""Scorers read back from their files, each by its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlflow_core.errors import TrainError, nearest
from mlflow_core.train.data.preprocess import Preprocessing
from mlflow_core.train.models.extras import check_installed
from mlflow_core.train.models.scorer import Scorer

__all__ = ["load_scorer"]


def load_scorer(
    kind: str,
    files: Mapping[str, bytes],
    facts: Mapping[str, Any],
    preprocessing: Preprocessing,
    *,
    place: str,
) -> Scorer:
    """Read a scorer back from what ``Scorer.files`` and ``Scorer.facts`` gave.

    Args:
        kind: Its kind.
        files: Content by name.
        facts: The facts.
        preprocessing: The model's own.
        place: The model's folder, for messages.

    Raises:
        TrainError: The kind is unknown, its library is not installed, or the files are damaged.
    """
    check_installed(kind, f"{place}: a model of the kind {kind}")
    match kind:
        case "xgboost":
            from mlflow_core.train.models.booster import BoosterScorer

            return BoosterScorer.load(files, facts, preprocessing, place=place)
        case "torch":
            from mlflow_core.train.models.network import NetworkScorer

            return NetworkScorer.load(files, facts, preprocessing, place=place)
        case "sklearn":
            from mlflow_core.train.models.estimator import EstimatorScorer

            return EstimatorScorer.load(files, facts, preprocessing, place=place)
        case "family":
            from mlflow_core.train.models.family import FamilyScorer

            return FamilyScorer.load(files, facts, preprocessing, place=place, load=load_scorer)
    raise TrainError(
        f'the model is of the kind "{kind}"',
        place=place,
        hint=nearest(kind, ["xgboost", "torch", "sklearn", "family"]),
    )
