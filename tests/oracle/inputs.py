"""What a network sees of one row, column by column: what ``mlflow_core.train.networks.columns`` is held to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mlflow_core.train.data.preprocess import Feature, Preprocessing

LIMIT = 20.0


def number(value: float, mean: float, std: float) -> tuple[float, bool]:
    """A number in standard deviations from the mean, and whether it is missing; one that never varies tells nothing."""
    if math.isnan(value):
        return 0.0, True
    if std == 0:
        return 0.0, False
    return min(max((value - mean) / std, -LIMIT), LIMIT), False


def category(code: float, feature: Feature) -> int | None:
    """The category's place in the dictionary; None if it is missing or was never seen."""
    if math.isnan(code) or not 0 <= code < len(feature.categories):
        return None
    return int(code)


def seen(preprocessing: Preprocessing, row: Sequence[float]) -> Mapping[str, tuple[float, bool] | int | None]:
    """What is seen of one row of the matrix, by the column's name."""
    out: dict[str, tuple[float, bool] | int | None] = {}
    place = 0
    for feature in preprocessing.features:
        if feature.length is None:
            out[feature.name] = _one(row[place], feature)
            place += 1
            continue
        length = row[place + feature.length]
        for position in range(feature.length):
            real = not math.isnan(length) and feature.length - position <= length
            value = row[place + position] if real else math.nan
            out[f"{feature.name}[{position}]"] = _one(value, feature)
        half = feature.length / 2
        out[f"{feature.name}.length"] = number(length, half, half)
        place += feature.length + 1
    return out


def _one(value: float, feature: Feature) -> tuple[float, bool] | int | None:
    if feature.kind == "category":
        return category(value, feature)
    return number(value, feature.mean, feature.std)
