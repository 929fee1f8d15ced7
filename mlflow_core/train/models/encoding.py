"""What a scikit-learn estimator sees of the model's matrix: some take missing values and categories, most do not.

One rule each, kept with the model. Numbers and booleans: an estimator that takes NaN gets them as they are; any other
gets them standardised by the training part's mean and deviation, a missing one as the mean. Categories: an estimator
with an argument ``categorical_features`` gets codes; any other gets a column of 0 and 1 for each category, all 0 where
it is missing or unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from mlflow_core.train.data.preprocess import Feature, Preprocessing

__all__ = ["Encoding"]


@dataclass(frozen=True)
class Encoding:
    """How the model's matrix becomes the estimator's.

    Args:
        features: The model's features, none of them a sequence.
        numbers: Whether numbers and booleans stay ``"as_they_are"``, NaN for missing, or are ``"standardised"``.
        categories: Whether categories are ``"codes"``, NaN for missing, or ``"one_hot"``.
    """

    features: tuple[Feature, ...]
    numbers: Literal["as_they_are", "standardised"]
    categories: Literal["codes", "one_hot"]

    @classmethod
    def of(cls, estimator: Any, preprocessing: Preprocessing) -> Self:
        """The encoding that an estimator needs."""
        from sklearn.utils import get_tags

        takes_missing = get_tags(estimator).input_tags.allow_nan
        takes_categories = "categorical_features" in estimator.get_params(deep=False)
        return cls(
            preprocessing.features,
            "as_they_are" if takes_missing else "standardised",
            "codes" if takes_categories else "one_hot",
        )

    @cached_property
    def slices(self) -> Mapping[str, slice]:
        """The estimator's columns of each feature, in the order of the features."""
        found, at = {}, 0
        for feature in self.features:
            stop = at + (len(feature.categories) if self._is_one_hot(feature) else 1)
            found[feature.name] = slice(at, stop)
            at = stop
        return found

    @property
    def width(self) -> int:
        """How many columns the estimator sees."""
        return max((columns.stop for columns in self.slices.values()), default=0)

    @property
    def category_columns(self) -> list[int]:
        """Those of the estimator's columns that hold codes."""
        coded = [one for one in self.features if one.kind == "category" and not self._is_one_hot(one)]
        return [self.slices[feature.name].start for feature in coded]

    @property
    def bytes_per_row(self) -> int:
        """What a row of the estimator's matrix takes in memory, beside the model's own row."""
        return 0 if self._is_identity else self.width * self.dtype.itemsize

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64 where numbers are standardised: solvers of linear models need the digits; else float32."""
        return np.dtype(np.float64 if self.numbers == "standardised" else np.float32)

    @property
    def means(self) -> NDArray[np.float64]:
        """(n_features,) what a missing number is taken for; 0 for a category."""
        return np.array([0.0 if one.kind == "category" else one.mean for one in self.features])

    @property
    def deviations(self) -> NDArray[np.float64]:
        """(n_features,) what a number is divided by; 1 for a category and for a number that never differs."""
        return np.array([1.0 if one.kind == "category" else one.std or 1.0 for one in self.features])

    def apply(self, matrix: NDArray[np.float32]) -> NDArray[Any]:
        """Encode rows.

        Args:
            matrix: (n_rows, n_features) of the model.

        Returns:
            (n_rows, width), without NaN where numbers are standardised and categories one-hot.
        """
        if self._is_identity:
            return matrix
        out = np.zeros((len(matrix), self.width), self.dtype)
        means, deviations = self.means, self.deviations
        for position, feature in enumerate(self.features):
            values, columns = matrix[:, position], self.slices[feature.name]
            if self._is_one_hot(feature):
                known = np.flatnonzero(~np.isnan(values))
                out[known, columns.start + values[known].astype(np.int64)] = 1
            elif feature.kind != "category" and self.numbers == "standardised":
                given = values.astype(np.float64)
                filled = np.where(np.isnan(given), means[position], given)
                out[:, columns.start] = (filled - means[position]) / deviations[position]
            else:
                out[:, columns.start] = values
        return out

    def per_feature(self, shares: NDArray[np.float64]) -> Mapping[str, float]:
        """Add up what is known of each of the estimator's columns, (width,), by feature."""
        return {name: float(shares[columns].sum()) for name, columns in self.slices.items()}

    def to_json(self) -> dict[str, str]:
        """Which of the rules hold."""
        return {"numbers": self.numbers, "categories": self.categories}

    @classmethod
    def from_json(cls, rules: Mapping[str, Any], preprocessing: Preprocessing) -> Self:
        """Read it back from ``to_json``."""
        return cls(preprocessing.features, rules["numbers"], rules["categories"])

    def _is_one_hot(self, feature: Feature) -> bool:
        return feature.kind == "category" and self.categories == "one_hot"

    @property
    def _is_identity(self) -> bool:
        coded = self.categories == "codes" or all(one.kind != "category" for one in self.features)
        return self.numbers == "as_they_are" and coded
