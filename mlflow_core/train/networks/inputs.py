"""What a network is told of its matrix: which columns are numbers, categories, sequences, and how they lie.

A description, JSON-able and kept in the model, so that a network that is read back is built as it was trained. The
truth is the model's ``Preprocessing``; the matrix itself is not scaled (trees share it), so all scaling is inside
the network, and serving and ONNX cannot differ from training. No torch here: the layers are in ``columns``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mlflow_core.errors import TrainError, nearest
from mlflow_core.train.data.preprocess import Feature, Preprocessing

__all__ = ["BINS", "LIMIT", "Category", "Inputs", "Number", "Series"]

BINS = 32
"""Into so many bins of equal weight the range of a number is cut, where a network asks for bins."""

LIMIT = 20.0
"""A standardised number is held within so many standard deviations: an infinity must not silence all others."""

_RESOLUTION = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Number:
    """One column of numbers.

    Args:
        name: The matrix column's name.
        column: Its place in the matrix.
        mean: Mean in the training part.
        std: Standard deviation there; 0 where it is constant.
        edges: Edges of its bins, ascending; empty where no sample of the rows was given.
        length: The column of the sequence's true length, if this is a position of a sequence.
        age: How long the sequence must be for this position to be real; 1 is the newest.
    """

    name: str
    column: int
    mean: float = 0.0
    std: float = 1.0
    edges: tuple[float, ...] = ()
    length: int | None = None
    age: int = 0

    @property
    def scale(self) -> float:
        """What the distance from the mean is multiplied by; 0 where float32 cannot tell the values apart."""
        telling = math.isfinite(self.std) and self.std > _RESOLUTION * abs(self.mean)
        return 1.0 / max(self.std, float(np.finfo(np.float32).tiny)) if telling else 0.0

    @property
    def scaled_edges(self) -> tuple[float, ...]:
        """Edges of the standardised number: the sample's quantiles, else those of a normal distribution."""
        if self.edges:
            scaled = ((edge - self.mean) * self.scale for edge in self.edges)
            return tuple(min(max(edge, -LIMIT), LIMIT) for edge in scaled)
        normal = NormalDist()
        return tuple(normal.inv_cdf(share) for share in np.linspace(0.005, 0.995, BINS + 1))


@dataclass(frozen=True)
class Category:
    """One column of codes.

    Args:
        name: The matrix column's name.
        column: Its place in the matrix.
        size: How many categories the dictionary has.
        length: The column of the sequence's true length, if this is a position of a sequence.
        age: How long the sequence must be for this position to be real; 1 is the newest.
    """

    name: str
    column: int
    size: int
    length: int | None = None
    age: int = 0


@dataclass(frozen=True)
class Series:
    """One feature that is a sequence, its newest value last.

    Args:
        name: The feature's name.
        column: The place of its first position.
        positions: How many positions it has; the column after them is its true length.
        size: How many categories the dictionary has; None for numbers.
        mean: Mean of the values in the training part.
        std: Their standard deviation; 0 where they are constant.
    """

    name: str
    column: int
    positions: int
    size: int | None = None
    mean: float = 0.0
    std: float = 1.0

    @property
    def length(self) -> int:
        """The column of its true length."""
        return self.column + self.positions

    def at(self, position: int) -> Number | Category:
        """One position as a column of its own; 0 is the oldest."""
        name, age = f"{self.name}[{position}]", self.positions - position
        if self.size is None:
            return Number(name, self.column + position, self.mean, self.std, (), self.length, age)
        return Category(name, self.column + position, self.size, self.length, age)


@dataclass(frozen=True)
class Inputs:
    """How a row of the matrix is made up.

    Args:
        columns: The matrix columns' names, in order.
        numbers: The columns of numbers, the sequences' lengths among them.
        categories: The columns of codes.
        sequences: The features that are sequences.
    """

    columns: tuple[str, ...]
    numbers: tuple[Number, ...] = ()
    categories: tuple[Category, ...] = ()
    sequences: tuple[Series, ...] = ()

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return len(self.columns)

    @classmethod
    def of(cls, preprocessing: Preprocessing, sample: NDArray[np.float32] | None = None) -> Self:
        """Describe what a preprocessing makes.

        Args:
            preprocessing: The model's own.
            sample: (n_rows, at least width) rows of the training part drawn at random, of which the edges of the
                numbers' bins are taken; networks without bins need none.
        """
        inputs = cls(tuple(preprocessing.columns))
        for feature in preprocessing.features:
            inputs = inputs._with(feature, preprocessing.slices[feature.name].start)
        return inputs if sample is None else inputs._with_edges(sample)

    def only(self, features: Iterable[str]) -> Self:
        """The same matrix with only some features seen.

        Raises:
            TrainError: There is no such feature.
        """
        wanted = set(features)
        lengths = {series.length: series.name for series in self.sequences}
        known = {self._feature(one, lengths) for one in self.numbers} | {one.name for one in self.categories}
        known |= set(lengths.values())
        for name in sorted(wanted - known):
            raise TrainError(f'the network reads "{name}", which is no feature', hint=nearest(name, known))
        return replace(
            self,
            numbers=tuple(one for one in self.numbers if self._feature(one, lengths) in wanted),
            categories=tuple(one for one in self.categories if one.name in wanted),
            sequences=tuple(one for one in self.sequences if one.name in wanted),
        )

    def flattened(self) -> Self:
        """The same matrix with each position of a sequence as a column of its own."""
        places = [series.at(position) for series in self.sequences for position in range(series.positions)]
        return replace(
            self,
            numbers=(*self.numbers, *(one for one in places if isinstance(one, Number))),
            categories=(*self.categories, *(one for one in places if isinstance(one, Category))),
            sequences=(),
        )

    def without_sequences(self) -> Self:
        """The same matrix with the sequences unseen but for their lengths."""
        return replace(self, sequences=())

    def without_edges(self) -> Self:
        """The same without the edges of bins, which a trained network has among its weights."""
        return replace(self, numbers=tuple(replace(one, edges=()) for one in self.numbers))

    def to_json(self) -> dict[str, Any]:
        """The description as JSON-able values."""
        return {
            "columns": list(self.columns),
            "numbers": [_plain(one) for one in self.numbers],
            "categories": [_plain(one) for one in self.categories],
            "sequences": [_plain(one) for one in self.sequences],
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Read a description back from ``to_json``.

        Raises:
            ValueError: It names a column that the matrix does not have.
        """
        made = cls(
            tuple(facts["columns"]),
            tuple(Number(**{**one, "edges": tuple(one.get("edges", ()))}) for one in facts["numbers"]),
            tuple(Category(**one) for one in facts["categories"]),
            tuple(Series(**one) for one in facts["sequences"]),
        )
        ends = [
            *(one.column for one in made.numbers),
            *(one.column for one in made.categories),
            *(one.length for one in made.sequences),
        ]
        if not all(0 <= end < made.width for end in ends):
            raise ValueError(f"a feature ends at column {max(ends)} of {made.width}")
        return made

    def _with(self, feature: Feature, start: int) -> Self:
        size = len(feature.categories) if feature.kind == "category" else None
        if feature.length is not None and feature.length > 0:
            series = Series(feature.name, start, feature.length, size, feature.mean, feature.std)
            half = feature.length / 2
            counted = Number(self.columns[series.length], series.length, half, half)
            return replace(self, numbers=(*self.numbers, counted), sequences=(*self.sequences, series))
        if feature.length is not None:  # lists that were all empty: only their length is there
            return replace(self, numbers=(*self.numbers, Number(self.columns[start], start, 0.0, 0.0)))
        if size is not None:
            return replace(self, categories=(*self.categories, Category(feature.name, start, size)))
        return replace(self, numbers=(*self.numbers, Number(feature.name, start, feature.mean, feature.std)))

    def _with_edges(self, sample: NDArray[np.float32]) -> Self:
        return replace(
            self, numbers=tuple(replace(one, edges=_edges(sample[:, one.column])) for one in self.numbers)
        )

    @staticmethod
    def _feature(number: Number, lengths: Mapping[int, str]) -> str:
        return lengths.get(number.column, number.name)


def _edges(values: NDArray[np.float32]) -> tuple[float, ...]:
    """Quantiles, equal ones once; none where there are not two."""
    known = values[np.isfinite(values)].astype(np.float64)
    if not len(known):
        return ()
    edges = np.unique(np.quantile(known, np.linspace(0.0, 1.0, BINS + 1)))
    return tuple(edges.tolist()) if len(edges) > 1 else ()


def _plain(one: Number | Category | Series) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(one).items()}
