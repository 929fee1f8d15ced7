"""Shapley values by predictions: equal to the definition where enumerated, near it where sampled, and always whole."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlflow_core.train.evaluation.shapley import Shapley, ShapleyPlan, plan_shapley, shapley
from tests.oracle.shapley import shapley_values

Score = Callable[[NDArray[np.float32]], NDArray[np.float64]]


def of_widths(*widths: int) -> list[slice]:
    """Neighbouring columns for each feature."""
    return [slice(a, b) for a, b in pairwise(np.cumsum([0, *widths]).tolist())]


def bent(width: int, seed: int) -> Score:
    """A small network with two values a row: no feature's effect is without the others'."""
    random = np.random.default_rng(seed)
    first, second = random.normal(size=(width, 6)), random.normal(size=(6, 2))
    return lambda matrix: np.tanh(np.nan_to_num(matrix, nan=0.7).astype(np.float64) @ first) @ second


def drawn(rows: int, width: int, seed: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    found = random.normal(size=(rows, width)).astype(np.float32)
    found[random.random(found.shape) < 0.15] = np.nan
    return found


def found(
    score: Score, n: int, behind: int, columns: list[slice], *, exact: bool, seed: int = 0
) -> tuple[Shapley, NDArray[np.float32], NDArray[np.float32]]:
    width = columns[-1].stop
    rows, background = drawn(n, width, seed + 1), drawn(behind, width, seed + 2)
    random = np.random.default_rng(seed)
    return shapley(score, rows, background, columns, exact=exact, random=random), rows, background


def by_definition(
    score: Score, rows: NDArray[np.float32], background: NDArray[np.float32], columns: list[slice]
) -> NDArray[np.float64]:
    """The oracle's values, (rows, outputs, features)."""
    of = [list(range(one.start, one.stop)) for one in columns]

    def one_output(output: int) -> Callable[[list[float]], float]:
        return lambda row: float(score(np.array([row], dtype=np.float32)).reshape(1, -1)[0, output])

    outputs = score(rows[:1]).reshape(1, -1).shape[1]
    return np.array(
        [
            [shapley_values(one_output(k), row, background.tolist(), of) for k in range(outputs)]
            for row in rows.tolist()
        ]
    )


@given(widths=st.lists(st.integers(1, 3), min_size=1, max_size=4), seed=st.integers(0, 10**6))
def test_every_combination_gives_what_the_definition_says(widths: list[int], seed: int) -> None:
    columns = of_widths(*widths)
    score = bent(columns[-1].stop, seed)

    ours, rows, background = found(score, 2, 3, columns, exact=True, seed=seed)

    assert ours.values == pytest.approx(by_definition(score, rows, background, columns), abs=1e-12)


@given(
    widths=st.lists(st.integers(1, 3), min_size=1, max_size=9),
    seed=st.integers(0, 10**6),
    exact=st.booleans(),
)
def test_contributions_and_base_are_the_prediction(widths: list[int], seed: int, exact: bool) -> None:
    columns = of_widths(*widths)
    score = bent(columns[-1].stop, seed)

    ours, rows, background = found(score, 4, 5, columns, exact=exact, seed=seed)

    assert ours.values.sum(axis=2) + ours.base == pytest.approx(score(rows), rel=1e-9, abs=1e-12)
    assert ours.base == pytest.approx(score(background).mean(axis=0), rel=1e-12)


def test_sampled_values_lie_within_four_standard_errors_of_the_definition() -> None:
    columns = of_widths(1, 2, 1, 1, 1)
    score = bent(6, 11)

    ours, rows, background = found(score, 12, 40, columns, exact=False, seed=11)

    off = np.abs(ours.values - by_definition(score, rows, background, columns)) / ours.errors
    assert (off <= 4).mean() >= 0.99, off.max()
    assert off.mean() > 0.01, "they are sampled, not the same"


@pytest.mark.parametrize("exact", [True, False])
def test_standard_errors_say_how_far_values_are_from_those_against_everything(exact: bool) -> None:
    columns, score = of_widths(1, 1, 1, 1), bent(4, 5)
    everything, rows = drawn(2000, 4, 6), drawn(25, 4, 7)
    truth = shapley(score, rows, everything, columns, exact=True, random=np.random.default_rng(0)).values
    within = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        background = everything[random.choice(2000, 32, replace=False)]
        ours = shapley(score, rows, background, columns, exact=exact, random=random)
        within.append(np.abs(ours.values - truth) <= 2 * ours.errors)

    # Of a mean of 32 draws: 94.6 % by Student's distribution; the rest of the allowance is for its being skewed.
    assert 0.92 <= np.mean(within) <= 0.975


@pytest.mark.parametrize("exact", [True, False])
def test_a_sum_gives_each_feature_its_own_term_whatever_the_order(exact: bool) -> None:
    weights = np.array([2.0, -1.0, 0.5, 3.0, 0.0, 1.0, -4.0])
    columns = of_widths(2, 1, 1, 1, 1, 1)
    rows, background = (np.nan_to_num(drawn(n, 7, n)) for n in (6, 9))

    ours = shapley(
        lambda matrix: matrix.astype(np.float64) @ weights,
        rows,
        background,
        columns,
        exact=exact,
        random=np.random.default_rng(3),
    )

    terms = weights * (rows.astype(np.float64) - background.astype(np.float64).mean(axis=0))
    expected = np.column_stack([terms[:, one].sum(axis=1) for one in columns])
    assert ours.values[:, 0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("exact", [True, False])
def test_what_the_model_does_not_look_at_adds_exactly_nothing(exact: bool) -> None:
    inner, columns = bent(4, 8), of_widths(1, 1, 2, 1, 1)

    ours, _, _ = found(lambda matrix: inner(matrix[:, [0, 1, 4, 5]]), 5, 6, columns, exact=exact, seed=8)

    assert (ours.values[:, :, 2] == 0).all()
    assert (ours.errors[:, :, 2] == 0).all()
    assert (ours.values[:, :, [0, 1, 3, 4]] != 0).all()


def test_features_that_do_the_same_with_the_same_values_add_the_same() -> None:
    score: Score = lambda matrix: np.exp(matrix[:, 0] + matrix[:, 1]) * matrix[:, 2]  # noqa: E731
    rows, background = np.nan_to_num(drawn(8, 3, 1)), np.nan_to_num(drawn(4000, 3, 2))
    rows[:, 1], background[:, 1] = rows[:, 0], background[:, 0]
    columns = of_widths(1, 1, 1)

    exact, sampled = (
        shapley(score, rows, background, columns, exact=one, random=np.random.default_rng(4))
        for one in (True, False)
    )

    assert exact.values[:, :, 0] == pytest.approx(exact.values[:, :, 1], rel=1e-9)
    apart = np.abs(sampled.values[:, :, 0] - sampled.values[:, :, 1])
    assert (apart <= 4 * (sampled.errors[:, :, 0] + sampled.errors[:, :, 1])).all()


def test_an_order_and_its_reverse_are_exact_where_features_act_in_pairs() -> None:
    random = np.random.default_rng(2)
    pairs, columns = random.normal(size=(8, 8)), of_widths(*[1] * 8)
    score: Score = lambda matrix: ((matrix @ pairs) * matrix).sum(axis=1).astype(np.float64)  # noqa: E731
    rows, background = (np.nan_to_num(drawn(n, 8, n)) for n in (3, 4))

    exact, sampled = (
        shapley(score, rows, background, columns, exact=one, random=np.random.default_rng(4))
        for one in (True, False)
    )

    assert sampled.values == pytest.approx(exact.values, abs=1e-4)  # of float32 products


def test_one_seed_gives_one_answer_and_predictions_come_in_few_calls() -> None:
    inner, columns, asked = bent(12, 3), of_widths(*[1] * 12), []

    def score(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        asked.append(len(matrix))
        return inner(matrix)

    one, _, _ = found(score, 200, 50, columns, exact=False, seed=3)
    calls = list(asked)
    other, _, _ = found(score, 200, 50, columns, exact=False, seed=3)

    np.testing.assert_array_equal(one.values, other.values)
    assert sum(calls) == ShapleyPlan(12, 200, 50).predictions == 200 * 50 * 22 + 250
    assert len(calls) == 1 + -(-200 * 50 * 22 // (8_192 // 22 * 22))
    assert max(calls) <= 8_192


@pytest.mark.parametrize(("width", "outputs"), [(4000, 1), (1, 4000)])
def test_fewer_rows_are_predicted_in_a_call_where_they_have_or_give_many_values(
    width: int, outputs: int
) -> None:
    columns, asked = of_widths(width, 1, 1), []

    def score(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        asked.append(len(matrix))
        return np.repeat(matrix[:, -1:].astype(np.float64), outputs, axis=1)

    found(score, 20, 30, columns, exact=True)

    assert sum(asked) == ShapleyPlan(3, 20, 30).predictions
    assert max(asked) <= 2_000


def test_a_plan_keeps_to_its_budget_and_gives_up_background_before_rows() -> None:
    for features in (1, 2, 4, 5, 20, 100, 700):
        plan = plan_shapley(features, rows=1000, background=64, budget=200_000)
        assert plan.predictions <= 200_000 + plan.rows + plan.background, plan
        assert plan.exact == (features <= 4)
        assert plan.background >= 8
        assert plan.background == 64 or plan.rows <= 50

    assert plan_shapley(2, rows=1000, background=64) == ShapleyPlan(2, 390, 64)
    assert plan_shapley(40, rows=1000, background=64) == ShapleyPlan(40, 51, 25)
    assert plan_shapley(500, rows=1000, background=64) == ShapleyPlan(500, 25, 8)
    assert plan_shapley(3, rows=1000, background=64, budget=10**9) == ShapleyPlan(3, 1000, 64)
    assert plan_shapley(9, rows=4, background=5, budget=200_000) == ShapleyPlan(9, 4, 5)
    assert plan_shapley(100_000, rows=1000, background=64, budget=1000).rows == 1


def test_a_row_without_finite_predictions_has_no_values_and_the_others_keep_theirs() -> None:
    columns = of_widths(1, 1, 1)
    rows = np.array([[1, 1, 1], [90, 2, 1], [1, 2, 3]], dtype=np.float32)
    background = np.array([[0, 0, 0], [1, 20, 1]], dtype=np.float32)

    def score(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        product = matrix[:, 0].astype(np.float64) * matrix[:, 1]
        return np.where(product > 1000, np.inf, product)

    ours = shapley(score, rows, background, columns, exact=True, random=np.random.default_rng(0))

    assert np.isnan(ours.values[1]).all()
    assert np.isnan(ours.errors[1]).all()
    assert ours.values[[0, 2]].sum(axis=2) + ours.base == pytest.approx(score(rows[[0, 2]])[:, None])


def test_a_single_background_row_leaves_errors_unknown() -> None:
    ours, _, _ = found(bent(2, 1), 3, 1, of_widths(1, 1), exact=True)

    assert np.isfinite(ours.values).all()
    assert np.isnan(ours.errors).all()
