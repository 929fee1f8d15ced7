"""What a call gives back: features with their statuses, predictions with the model that made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_core.client.errors import UnexpectedAnswer
from mlflow_core.client.values import read_column

__all__ = ["FeatureAnswer", "ModelVersion", "PredictionAnswer"]


@dataclass(frozen=True)
class FeatureAnswer:
    """Features of some entities, in the order in which these were sent.

    Args:
        columns: Feature -> one value an entity.
        statuses: Feature -> one status an entity: PRESENT, NULL_VALUE, NOT_FOUND or OUTSIDE_MAX_AGE.
        types: Feature -> its type's name.
    """

    columns: Mapping[str, list[Any]]
    statuses: Mapping[str, list[str]]
    types: Mapping[str, str]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one dict of features an entity."""
        rows = zip(*self.columns.values(), strict=True)
        return [dict(zip(self.columns, row, strict=True)) for row in rows]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))


@dataclass(frozen=True)
class ModelVersion:
    """Which model answered.

    Args:
        name: The model.
        version: Its version.
        alias: The alias it was found by, or None.
    """

    name: str
    version: int
    alias: str | None = None


@dataclass(frozen=True)
class PredictionAnswer:
    """Predictions for some entities, in the order in which these were sent.

    Args:
        predictions: One prediction an entity.
        model: Who made them.
        features: The features they were made from, where asked for.
    """

    predictions: list[float]
    model: ModelVersion
    features: FeatureAnswer | None = None


def features_of(answer: Any) -> FeatureAnswer:
    """Read the JSON of a feature answer.

    Raises:
        UnexpectedAnswer: It is none.
    """
    try:
        types = dict(answer["types"])
        columns = {name: read_column(values, types[name]) for name, values in answer["features"].items()}
        return FeatureAnswer(columns, dict(answer["statuses"]), types)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UnexpectedAnswer(f"the answer is no feature answer: {error!r}") from error


def predictions_of(answer: Any) -> PredictionAnswer:
    """Read the JSON of a prediction answer.

    Raises:
        UnexpectedAnswer: It is none.
    """
    try:
        model = ModelVersion(
            answer["model"]["name"], answer["model"]["version"], answer["model"].get("alias")
        )
        features = features_of(answer) if "features" in answer else None
        return PredictionAnswer([float(one) for one in answer["predictions"]], model, features)
    except (KeyError, TypeError, ValueError) as error:
        raise UnexpectedAnswer(f"the answer is no prediction: {error!r}") from error
