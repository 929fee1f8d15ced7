"""Shapley values of any model, by its predictions alone: features join a background row in every order, or in some.

A row and a background row are a game: features that have joined have the row's values, the others those of the
background, and what is won is the prediction (the interventional game of Janzing et al., "Feature relevance
quantification in explainable AI", 2020). A game's values add up to the difference of the two predictions; their mean
over the same background rows for every row adds up to the row's prediction less the background's mean one, and what the
model does not look at gets 0. Few features are enumerated, all combinations of them (Shapley, 1953); of more, each game
takes one random order and its reverse: unbiased sampling (Štrumbelj and Kononenko, "Explaining prediction models and
individual predictions with feature contributions", 2014) in antithetic pairs (Mitchell et al., "Sampling permutations
for Shapley value estimation", 2022). Of models it knows nothing: ``contributions`` explains those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import comb
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mlflow_core.train.evaluation.metrics import Floats

__all__ = ["Shapley", "ShapleyPlan", "plan_shapley", "shapley"]

_ENUMERATED = 4  # 14 predictions a game; five features take 30 so, and 8 in an order and its reverse
_FEWEST_BACKGROUND, _ENOUGH_ROWS = 8, 50
_BUDGET_A_FEATURE, _LEAST_BUDGET, _GREATEST_BUDGET = 2_500, 50_000, 200_000
_ROWS_A_CALL, _NUMBERS_A_CALL = 8_192, 8_000_000
"""What is predicted in one call: more is no faster, and a model may need far more memory for a row than the row does."""

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class ShapleyPlan:
    """How many rows are explained with how many predictions.

    Args:
        features: How many features play.
        rows: How many rows are explained.
        background: How many background rows each of them meets.
    """

    features: int
    rows: int
    background: int

    @property
    def exact(self) -> bool:
        """Whether every combination of features is predicted."""
        return self.features <= _ENUMERATED

    @property
    def predictions(self) -> int:
        """How many predictions it takes."""
        return (
            self.rows * self.background * _per_game(self.features, self.exact) + self.rows + self.background
        )


@dataclass(frozen=True)
class Shapley:
    """Shapley values of some rows.

    Args:
        values: What each feature added, (rows, outputs, features).
        errors: Their standard errors, of the same shape: how far other background rows and other orders would move
            them; NaN with a single background row.
        base: The mean prediction of the background rows, (outputs,).
    """

    values: Floats
    errors: Floats
    base: Floats


def plan_shapley(features: int, *, rows: int, background: int, budget: int | None = None) -> ShapleyPlan:
    """Choose how many rows are explained, and against how many background rows, for a number of predictions.

    Where the budget is short, background rows go first, down to 8, while fewer than 50 rows could be explained; then rows.

    Args:
        features: How many features there are.
        rows: At most so many rows are explained.
        background: At most so many background rows.
        budget: At most so many predictions of mixed rows, except that one row is explained at any price. None: 2,500 a
            feature, between 50,000 and 200,000 of them: from 20 features on a third of what ``importance`` takes in a report.

    Example:
        >>> plan_shapley(20, rows=1000, background=64)
        ShapleyPlan(features=20, rows=50, background=26)
        >>> plan_shapley(20, rows=1000, background=64, budget=200_000)
        ShapleyPlan(features=20, rows=82, background=64)
    """
    per_game = max(1, _per_game(features, features <= _ENUMERATED))
    if budget is None:
        budget = min(max(_LEAST_BUDGET, _BUDGET_A_FEATURE * features), _GREATEST_BUDGET)
    affordable = budget // (per_game * min(rows, _ENOUGH_ROWS))
    background = min(background, max(_FEWEST_BACKGROUND, affordable))
    return ShapleyPlan(features, min(rows, max(1, budget // (per_game * background))), background)


def shapley(
    score: Callable[[Matrix], Floats],
    rows: Matrix,
    background: Matrix,
    columns: Sequence[slice],
    *,
    exact: bool,
    random: np.random.Generator,
) -> Shapley:
    """Find what each feature added to each row's prediction.

    Args:
        score: Predicts rows, (n, width) to (n,) or (n, outputs); called with many at a time.
        rows: The rows in question, (rows, width).
        background: What features that have not joined are like, (background, width).
        columns: The columns of each feature, which join together; between them all columns.
        exact: Whether to enumerate all combinations, 2^features, rather than to sample orders.
        random: Draws the orders.

    Returns:
        Values that add up to the predictions: ``values.sum(axis=2) + base``. NaN for a row that the model gives no finite
        prediction, by itself or mixed with a background row.

    Example:
        >>> random, one = np.random.default_rng(0), np.ones((1, 2), np.float32)
        >>> product = lambda matrix: matrix[:, 0] * matrix[:, 1]
        >>> shapley(product, 4 * one, one, [slice(0, 1), slice(1, 2)], exact=True, random=random).values
        array([[[7.5, 7.5]]])
    """
    games = len(rows) * len(background)
    design: _Design = _Combinations(len(columns)) if exact else _Orders.drawn(games, len(columns), random)
    feature_of = np.empty(rows.shape[1], dtype=np.int64)
    for feature, of in enumerate(columns):
        feature_of[of] = feature
    ends = _scored(score, np.concatenate([background, rows]))
    of_background, of_rows = ends[: len(background)], ends[len(background) :]
    found = np.empty((games, ends.shape[1], len(columns)))
    for playing in _some_at_once(games, max(1, design.steps), max(rows.shape[1], ends.shape[1])):
        row, other = np.divmod(playing, len(background))
        won = np.empty((len(playing), design.steps + 2, ends.shape[1]))
        won[:, 0], won[:, -1] = of_background[other], of_rows[row]
        if design.steps:
            joined = design.joined(playing)[:, :, feature_of]
            mixed = np.where(joined, rows[row][:, None, :], background[other][:, None, :])
            won[:, 1:-1] = _scored(score, mixed.reshape(-1, rows.shape[1])).reshape(won[:, 1:-1].shape)
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite becomes NaN, which is said
            found[playing] = design.worth(playing, won)
    return _averaged(found.reshape(len(rows), len(background), *found.shape[1:]), of_background)


def _some_at_once(games: int, steps: int, width: int) -> Iterator[NDArray[np.int64]]:
    """The numbers of games that are predicted in one call, by how many values a row has or gives: that bounds the memory."""
    at_once = max(1, min(_ROWS_A_CALL, _NUMBERS_A_CALL // width) // steps)
    for start in range(0, games, at_once):
        yield np.arange(start, min(start + at_once, games))


def _averaged(found: Floats, of_background: Floats) -> Shapley:
    """Each row's values over its games, (rows, background, outputs, features), and what they vary by."""
    with np.errstate(invalid="ignore", over="ignore"):
        values, base = found.mean(axis=1), of_background.mean(axis=0)
        errors = np.full_like(values, np.nan)
        if len(of_background) > 1:
            errors = found.std(axis=1, ddof=1) / np.sqrt(len(of_background))
    known = np.isfinite(values).all(axis=(1, 2))
    values[~known], errors[~known] = np.nan, np.nan
    return Shapley(values, errors, base)


def _per_game(features: int, exact: bool) -> int:
    """Predictions that a game takes beside those of its two rows."""
    return 2**features - 2 if exact else 2 * (features - 1)


def _scored(score: Callable[[Matrix], Floats], matrix: Matrix) -> Floats:
    """Predictions as columns, (n, outputs)."""
    return np.asarray(score(matrix), dtype=np.float64).reshape(len(matrix), -1)


class _Design(Protocol):
    """Which combinations of features are predicted in each game, and what they say."""

    @property
    def steps(self) -> int:
        """Predictions of mixed rows a game."""
        ...

    def joined(self, games: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which features have joined at each step, (games, steps, features)."""
        ...

    def worth(self, games: NDArray[np.int64], values: Floats) -> Floats:
        """What features added, (games, outputs, features), by predictions before, at and after the steps."""
        ...


@dataclass(frozen=True)
class _Combinations:
    """Every combination of features; its number's bits are the features that have joined."""

    features: int

    @property
    def steps(self) -> int:
        return _per_game(self.features, exact=True)

    def joined(self, games: NDArray[np.int64]) -> NDArray[np.bool_]:
        numbers = np.arange(1, self.steps + 1)
        members = (numbers[:, None] >> np.arange(self.features)) & 1 == 1
        return np.broadcast_to(members, (len(games), *members.shape))

    def worth(self, games: NDArray[np.int64], values: Floats) -> Floats:
        n, numbers = self.features, np.arange(2**self.features)
        sizes = np.array([int(number).bit_count() for number in numbers])
        weights = np.array([1 / (n * comb(n - 1, size)) for size in range(n)])
        found = np.empty((len(games), values.shape[2], n))
        for feature in range(n):
            without = numbers[numbers >> feature & 1 == 0]
            added = values[:, without | 1 << feature] - values[:, without]
            found[:, :, feature] = np.einsum("s,gso->go", weights[sizes[without]], added)
        return found


@dataclass(frozen=True)
class _Orders:
    """A random order and its reverse for each game.

    Args:
        ranks: The place of each feature in the order, (games, features).
    """

    ranks: NDArray[np.int64]

    @classmethod
    def drawn(cls, games: int, features: int, random: np.random.Generator) -> _Orders:
        return cls(random.permuted(np.tile(np.arange(features), (games, 1)), axis=1))

    @property
    def steps(self) -> int:
        return _per_game(self.ranks.shape[1], exact=False)

    def joined(self, games: NDArray[np.int64]) -> NDArray[np.bool_]:
        ranks, steps = self.ranks[games][:, None, :], np.arange(1, self.ranks.shape[1])[:, None]
        return np.concatenate([ranks < steps, ranks >= self.ranks.shape[1] - steps], axis=1)

    def worth(self, games: NDArray[np.int64], values: Floats) -> Floats:
        ranks, n = self.ranks[games][:, :, None], self.ranks.shape[1]
        first, last = values[:, :1], values[:, -1:]
        ahead = np.diff(np.concatenate([values[:, :n], last], axis=1), axis=1)
        back = np.diff(np.concatenate([first, values[:, n:]], axis=1), axis=1)
        added = np.take_along_axis(ahead, ranks, axis=1) + np.take_along_axis(back, n - 1 - ranks, axis=1)
        return np.moveaxis(added / 2, 1, 2)
