"""A scorer that is a weighted sum of its columns: what it should be worth is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlflow_core.train.data.preprocess import Feature, Preprocessing
from mlflow_core.train.models.model import Model


@dataclass(frozen=True)
class Linear:
    """Weights of the columns; a missing value counts as 0."""

    weights: tuple[float, ...]
    kind: str = "linear"

    def score(self, matrix: np.ndarray) -> np.ndarray:
        return np.nan_to_num(matrix).astype(np.float64) @ np.array(self.weights)

    def files(self) -> Mapping[str, bytes]:
        return {}

    def facts(self) -> Mapping[str, Any]:
        return {}

    def importance(self) -> Mapping[str, float]:
        return {}


def linear(features: tuple[Feature, ...], weights: tuple[float, ...]) -> Model:
    """A model of a quantity."""
    return Model(Preprocessing(features), "y", (), "squared", "regression", Linear(weights))
