"""What a call gives back: features with their statuses, predictions with the model that made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlflow_core.client.errors import UnexpectedAnswer
from mlflow_core.client.frames import arrow_table, data_frame
from mlflow_core.client.values import read_column

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "ErasureAnswer",
    "FeatureAnswer",
    "ModelVersion",
    "PredictionAnswer",
    "PushAnswer",
    "erasure_of",
    "features_of",
    "predictions_of",
    "push_of",
]


@dataclass(frozen=True)
class FeatureAnswer:
    """Features of some entities, in the order in which these were sent.

    Args:
        columns: Feature -> one value an entity.
        statuses: Feature -> one status an entity: PRESENT, NULL_VALUE, NOT_FOUND or OUTSIDE_MAX_AGE.
        types: Feature -> its type's name.
        event_times: Feature -> when each value's event was; empty unless asked for.
    """

    columns: Mapping[str, list[Any]]
    statuses: Mapping[str, list[str]]
    types: Mapping[str, str]
    event_times: Mapping[str, list[datetime | None]] = field(default_factory=dict)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one dict of features an entity."""
        rows = zip(*self.columns.values(), strict=True)
        return [dict(zip(self.columns, row, strict=True)) for row in rows]

    def to_pandas(self) -> pd.DataFrame:
        """Return the features as a DataFrame, in pandas' types that hold null; lists and maps are objects.

        Raises:
            ImportError: pandas is not installed.
        """
        return data_frame(self.columns, self.types)

    def to_arrow(self) -> pa.Table:
        """Return the features as an Arrow table; see ``FeatureClient.get_arrow`` for many rows.

        Raises:
            ImportError: pyarrow is not installed.
        """
        return arrow_table(self.columns, self.types)

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
        predictions: One prediction an entity; of a model with several outputs a list an entity.
        model: Who made them.
        features: The features they were made from, where asked for.
        outputs: The names of several outputs; else empty.
    """

    predictions: list[float] | list[list[float]]
    model: ModelVersion
    features: FeatureAnswer | None = None
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class PushAnswer:
    """What became of pushed rows.

    Args:
        rows: How many were sent.
        written: How many stored rows changed, of all views: those that were there already, or newer, did not.
        views: The same for each view.
    """

    rows: int
    written: int
    views: Mapping[str, int]


@dataclass(frozen=True)
class ErasureAnswer:
    """What was erased where.

    Args:
        erasure: Its number in the list of erasures.
        columns: The key columns.
        erased_until: Events up to this time are not seen any more.
        online: From how many keys of each view a value was taken away.
        layouts: How many cached layouts were removed.
        datasets: The numbers of datasets that were removed.
    """

    erasure: int
    columns: tuple[str, ...]
    erased_until: datetime
    online: Mapping[str, int]
    layouts: int
    datasets: tuple[int, ...]


def features_of(answer: Any) -> FeatureAnswer:
    """Read the JSON of a feature answer.

    Raises:
        UnexpectedAnswer: It is none.
    """
    try:
        types = dict(answer["types"])
        columns = {name: read_column(values, types[name]) for name, values in answer["features"].items()}
        n_rows = len(next(iter(columns.values()), []))
        statuses = {name: _for_each(told, n_rows) for name, told in answer["statuses"].items()}
        times = answer.get("event_timestamps", {}).items()
        return FeatureAnswer(
            columns, statuses, types, {name: read_column(some, "timestamp") for name, some in times}
        )
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
        outputs = tuple(map(str, answer.get("outputs", ())))
        given = answer["predictions"]
        values = (
            [[float(each) for each in one] for one in given] if outputs else [float(one) for one in given]
        )
        return PredictionAnswer(values, model, features, outputs)
    except (KeyError, TypeError, ValueError) as error:
        raise UnexpectedAnswer(f"the answer is no prediction: {error!r}") from error


def push_of(answer: Any) -> PushAnswer:
    """Read the JSON of a push's answer.

    Raises:
        UnexpectedAnswer: It is none.
    """
    try:
        return PushAnswer(int(answer["rows"]), int(answer["written"]), dict(answer["views"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UnexpectedAnswer(f"the answer is none to a push: {error!r}") from error


def erasure_of(answer: Any) -> ErasureAnswer:
    """Read the JSON of an erasure's answer.

    Raises:
        UnexpectedAnswer: It is none.
    """
    try:
        [until] = read_column([answer["erased_until"]], "timestamp")
        return ErasureAnswer(
            int(answer["erasure"]),
            tuple(answer["columns"]),
            until,
            dict(answer["online"]),
            int(answer["layouts"]),
            tuple(answer["datasets"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnexpectedAnswer(f"the answer is none to a deletion: {error!r}") from error


def _for_each(told: str | list[str], n_rows: int) -> list[str]:
    """The server tells a status once where all of a feature's values have it."""
    return [told] * n_rows if isinstance(told, str) else list(told)
