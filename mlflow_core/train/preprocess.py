"""How columns become the numbers that a model reads: one float32 matrix, the same in training and in serving.

Numbers and booleans are taken as they are, strings by the model's one dictionary, which knows the training part
only; a null, a NaN and a category never seen are missing. Nothing is scaled or imputed: trees need neither. An
infinity becomes the greatest finite float32, which keeps its place in the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlflow_core.errors import TrainError, nearest

__all__ = ["MAX_CATEGORIES", "Feature", "Kind", "Preprocessing", "as_floats", "kind_of"]

Kind = Literal["number", "bool", "category"]

MAX_CATEGORIES = 65_536
"""A string column with more values than this is a key, not a category."""

_GREATEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Feature:
    """One column that the model reads.

    Args:
        name: Its name.
        kind: What it is to the model.
        type: Its Arrow type in the training part, as text, e.g. ``double``.
        categories: The dictionary of a category: its values in the training part, sorted; their index is the code.
    """

    name: str
    kind: Kind
    type: str
    categories: tuple[str, ...] = ()

    @cached_property
    def codes(self) -> Mapping[str, float]:
        """Code by category."""
        return {category: float(code) for code, category in enumerate(self.categories)}

    @cached_property
    def dictionary(self) -> pa.Array:
        """The categories as an Arrow array."""
        return pa.array(self.categories, pa.string())


@dataclass(frozen=True)
class Preprocessing:
    """The columns that a model reads, in order, with their dictionaries.

    Args:
        features: One per column of the matrix.
    """

    features: tuple[Feature, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in the matrix's order."""
        return tuple(feature.name for feature in self.features)

    @property
    def xgboost_types(self) -> list[str]:
        """XGBoost's type per column: ``c`` for a category, ``q`` for a quantity."""
        return ["c" if feature.kind == "category" else "q" for feature in self.features]

    def matrix(self, table: pa.Table) -> NDArray[np.float32]:
        """Turn a table, its columns in any order, into the model's matrix.

        Args:
            table: Has at least the features' columns; others are ignored.

        Returns:
            Array (n_rows, n_features), float32, missing values NaN.

        Raises:
            TrainError: A column is missing or is of another kind than in training.
        """
        out = np.empty((table.num_rows, len(self.features)), dtype=np.float32)
        names = set(table.column_names)
        for position, feature in enumerate(self.features):
            if feature.name not in names:
                raise _missing(feature.name, names)
            out[:, position] = _column(table.column(feature.name), feature)
        return out

    def matrix_of(self, columns: Mapping[str, Sequence[Any]]) -> NDArray[np.float32]:
        """Turn columns of Python values into the model's matrix: the fast way for a few rows.

        Args:
            columns: Values by column name, all of one length; None is missing.

        Returns:
            Array (n_rows, n_features), float32; equal to ``matrix`` of the same values.

        Raises:
            TrainError: A column is missing or holds a value of another kind than in training.
        """
        rows = []
        for feature in self.features:
            if feature.name not in columns:
                raise _missing(feature.name, columns)
            rows.append(_values(columns[feature.name], feature))
        return np.clip(np.array(rows, dtype=np.float64), -_GREATEST, _GREATEST).astype(np.float32).T.copy()

    def to_json(self) -> list[dict[str, Any]]:
        """The features as JSON-able values."""
        return [
            {"name": one.name, "kind": one.kind, "type": one.type}
            | ({"categories": list(one.categories)} if one.kind == "category" else {})
            for one in self.features
        ]

    @classmethod
    def from_json(cls, features: Iterable[Mapping[str, Any]]) -> Self:
        """Read the features back from ``to_json``."""
        return cls(
            tuple(
                Feature(one["name"], one["kind"], one["type"], tuple(one.get("categories", ())))
                for one in features
            )
        )


def kind_of(name: str, type_: pa.DataType) -> Kind | None:
    """Say what a column is to a model.

    Args:
        name: Its name, for the error.
        type_: Its Arrow type.

    Returns:
        The kind; None for a column that is null throughout and tells nothing.

    Raises:
        TrainError: A model cannot read this type; the hint says what to do instead.
    """
    if pa.types.is_dictionary(type_):
        return kind_of(name, type_.value_type)
    if pa.types.is_null(type_):
        return None
    if pa.types.is_boolean(type_):
        return "bool"
    if pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return "number"
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return "category"
    raise TrainError(
        f'feature "{name}" is of type {type_}, which this trainer cannot read',
        expected="a number, a boolean or a string",
        hint=_way_out(type_),
    )


def as_floats(column: pa.ChunkedArray | pa.Array) -> NDArray[np.float64]:
    """A column of numbers or booleans as float64, nulls as NaN."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    values: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy()
    return values


def _way_out(type_: pa.DataType) -> str:
    if pa.types.is_temporal(type_):
        return "Make a number of it in an on-demand feature, such as ml.hour(...) or the seconds since then."
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        return "Use an aggregate with one value (mean, max, last) instead, or leave it out of the feature service."
    return "Leave it out of the feature service, or derive numbers from it in an on-demand feature."


def _missing(name: str, names: Iterable[str]) -> TrainError:
    return TrainError(f'the model needs the column "{name}", which was not given', hint=nearest(name, names))


def _column(column: pa.ChunkedArray, feature: Feature) -> NDArray[np.float64]:
    kind = kind_of(feature.name, column.type)
    if kind is None:
        return np.full(len(column), np.nan)
    if (kind == "category") != (feature.kind == "category"):
        raise _other_kind(feature, str(column.type))
    if kind == "category":
        if pa.types.is_dictionary(column.type) or not pa.types.is_string(column.type):
            column = column.cast(pa.string())
        return as_floats(pc.index_in(column, value_set=feature.dictionary))
    return np.clip(as_floats(column), -_GREATEST, _GREATEST)


def _values(values: Sequence[Any], feature: Feature) -> list[float]:
    if feature.kind == "category":
        if any(value is not None and not isinstance(value, str) for value in values):
            raise _other_kind(feature, type(next(v for v in values if v is not None)).__name__)
        codes = feature.codes
        return [codes.get(value, np.nan) for value in values]
    if any(isinstance(value, str) for value in values):
        raise _other_kind(feature, "string")
    try:
        return [np.nan if value is None else float(value) for value in values]
    except TypeError:
        raise _other_kind(feature, type(next(v for v in values if v is not None)).__name__) from None


def _other_kind(feature: Feature, given: str) -> TrainError:
    return TrainError(
        f'feature "{feature.name}" is of type {given}, but the model was trained on {feature.type}',
        expected=f"a {feature.kind}",
        hint="Train a new model if the feature has changed.",
    )
