"""A scikit-learn estimator that was fitted, kept by skops, with the encoding of its matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.data.preprocess import Preprocessing
from mlflow_core.train.models.encoding import Encoding
from mlflow_core.train.models.persisted import dump_estimator, load_estimator

__all__ = ["EstimatorScorer", "Output"]

_FILE = "estimator.skops"

Output = Literal["probability", "probabilities", "value", "unusual"]
"""What is asked of the estimator: the probability of class 1, one for each class, its prediction, or how unusual a row
is (greater is more unusual)."""


@dataclass(frozen=True)
class EstimatorScorer:
    """A fitted estimator.

    Args:
        skops: The estimator as skops keeps it.
        path: Import path of its class.
        encoding: How it sees the matrix.
        output: What is asked of it.
        estimator: The estimator itself, fitted; predicts in the thread that asks.
    """

    skops: bytes = field(repr=False)
    path: str
    encoding: Encoding = field(repr=False)
    output: Output
    estimator: Any = field(repr=False, compare=False)

    @classmethod
    def of(cls, estimator: Any, path: str, encoding: Encoding, output: Output) -> Self:
        """Keep an estimator that was just fitted.

        Raises:
            TrainError: It cannot be kept without a pickle.
        """
        return cls(dump_estimator(estimator), path, encoding, output, estimator)

    @classmethod
    def load(
        cls,
        files: Mapping[str, bytes],
        facts: Mapping[str, Any],
        preprocessing: Preprocessing,
        *,
        place: str,
    ) -> Self:
        """Read it back; see ``load_scorer``."""
        if _FILE not in files:
            raise TrainError(f"there is no {_FILE}, so this is not a model's folder", place=place)
        file = str(Path(place) / _FILE)
        output = facts["output"]
        if output not in get_args(Output):
            raise TrainError(f'"{output}" is asked of it', place=place, expected=f"one of {get_args(Output)}")
        encoding = Encoding.from_json(facts["encoding"], preprocessing)
        estimator = load_estimator(files[_FILE], facts["estimator"], place=file)
        if estimator.n_features_in_ != encoding.width:
            raise TrainError("the estimator reads other features than the model says", place=file)
        return cls(files[_FILE], facts["estimator"], encoding, output, estimator)

    @property
    def kind(self) -> str:
        """``sklearn``."""
        return "sklearn"

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predict rows, (n_rows, width)."""
        rows = self.encoding.apply(matrix)
        match self.output:
            case "probability":
                found = self.estimator.predict_proba(rows)[:, 1]
            case "probabilities":
                found = self.estimator.predict_proba(rows)
            case "value":
                found = self.estimator.predict(rows)
            case "unusual":
                usual = getattr(self.estimator, "score_samples", None) or self.estimator.decision_function
                found = -usual(rows)
        return np.ascontiguousarray(found, dtype=np.float64)

    def files(self) -> Mapping[str, bytes]:
        """``estimator.skops``."""
        return {_FILE: self.skops}

    def facts(self) -> Mapping[str, Any]:
        """Its class, its encoding, what is asked of it, and its arguments for a reader."""
        return {"estimator": self.path, "encoding": self.encoding.to_json(), "output": self.output}

    def importance(self) -> Mapping[str, float]:
        """Each feature's share of the impurity that its trees removed, or of its coefficients' sizes, which add up to 1.

        Coefficients are of standardised numbers, so their sizes can be compared. Empty for an estimator with neither.
        """
        found = getattr(self.estimator, "feature_importances_", None)
        if found is None:
            coefficients = getattr(self.estimator, "coef_", None)
            if coefficients is None or self.encoding.numbers != "standardised":
                return {}
            found = np.abs(np.atleast_2d(coefficients)).sum(axis=0)
        shares = np.asarray(found, dtype=np.float64)
        return self.encoding.per_feature(shares / (shares.sum() or 1.0))
