"""Boosted trees that were learned: XGBoost's booster, kept as UBJ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.data.preprocess import Preprocessing
from mlflow_core.train.models.trees import check_booster, has_vector_leaves

if TYPE_CHECKING:
    import xgboost

__all__ = ["BoosterScorer", "reason"]

_FEW_ROWS = 4096
_FILE = "booster.ubj"


@dataclass(frozen=True)
class BoosterScorer:
    """A booster.

    Args:
        ubj: The booster as UBJ.
        rounds: Rounds of boosting that it holds.
    """

    ubj: bytes = field(repr=False)
    rounds: int
    _booster: xgboost.Booster = field(repr=False, compare=False)

    @classmethod
    def load(
        cls,
        files: Mapping[str, bytes],
        facts: Mapping[str, Any],  # noqa: ARG003 the same for every kind
        preprocessing: Preprocessing,
        *,
        place: str,
    ) -> Self:
        """Read it back; see ``load_scorer``."""
        if _FILE not in files:
            raise TrainError(f"there is no {_FILE}, so this is not a model's folder", place=place)
        file = str(Path(place) / _FILE)
        check_booster(files[_FILE], width=preprocessing.width, place=file)
        return cls._of(files[_FILE], preprocessing, place=file)

    @classmethod
    def _of(cls, ubj: bytes, preprocessing: Preprocessing, *, place: str) -> Self:
        import xgboost

        try:
            booster = xgboost.Booster({"nthread": 1}, model_file=bytearray(ubj))
        except xgboost.core.XGBoostError as error:
            raise TrainError(f"is not a booster: {reason(error)}", place=place) from None
        if list(booster.feature_names or ()) != list(preprocessing.columns):
            raise TrainError("the booster reads other features than the model says", place=place)
        return cls(ubj, booster.num_boosted_rounds(), booster)

    @property
    def explains(self) -> bool:
        """Whether XGBoost says what each feature adds to a prediction: of trees with several values a leaf it cannot."""
        return not has_vector_leaves(self.ubj)

    @property
    def kind(self) -> str:
        """``xgboost``."""
        return "xgboost"

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predict rows, (n_rows, width)."""
        booster = self._booster if len(matrix) <= _FEW_ROWS else self._parallel
        scores = booster.inplace_predict(matrix, validate_features=False, missing=np.nan)
        return np.asarray(scores, dtype=np.float64)

    def files(self) -> Mapping[str, bytes]:
        """``booster.ubj``."""
        return {_FILE: self.ubj}

    def facts(self) -> Mapping[str, Any]:
        """How many rounds it holds."""
        return {"rounds": self.rounds}

    def importance(self) -> Mapping[str, float]:
        """Each feature's share of the loss that the trees removed; they add up to 1, unused features have 0."""
        scores = {
            name: float(np.sum(score))
            for name, score in self._booster.get_score(importance_type="total_gain").items()
        }
        total = sum(scores.values()) or 1.0
        return {name: scores.get(name, 0.0) / total for name in self._booster.feature_names or ()}

    @cached_property
    def _parallel(self) -> xgboost.Booster:
        """The booster with all threads. For a few rows, waking threads takes longer than the trees."""
        booster = self._booster.copy()
        booster.set_param({"nthread": 0})
        return booster


def reason(error: Exception) -> str:
    """The sentence of an XGBoost error, without its source lines and stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept: list[str] = []
    for line in lines:
        if line.startswith("Stack trace"):
            break
        kept.append(line.partition("] ")[2] if line.startswith("[") else line)
    said = [line.rpartition(".cc:")[2].partition(": ")[2] if ".cc:" in line else line for line in kept]
    return " ".join(line for line in said if line)[:400] or "no reason given"
