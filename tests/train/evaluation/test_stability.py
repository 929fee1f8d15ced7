"""Distances between what was and what is: as a loop over rows has them, near 0 where nothing differs, far where it does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.errors import TrainError
from mlflow_core.train.evaluation.stability import can_be_compared, distances, stability_index
from tests.oracle import stability as oracle

SEED = 43
Draw = Callable[[np.random.Generator, int], list[Any]]


def some_missing(values: Sequence[Any], random: np.random.Generator, share: float = 0.2) -> list[Any]:
    return [None if random.random() < share else value for value in values]


DRAWS: dict[str, tuple[Draw, Draw]] = {
    "normal": (lambda r, n: r.normal(0, 1, n).tolist(), lambda r, n: r.normal(0.4, 1.3, n).tolist()),
    "few_numbers": (lambda r, n: r.integers(0, 4, n).tolist(), lambda r, n: r.integers(1, 6, n).tolist()),
    "mostly_zero": (
        lambda r, n: (r.poisson(0.4, n) * r.normal(1, 1, n)).tolist(),
        lambda r, n: (r.poisson(0.9, n) * r.normal(1, 1, n)).tolist(),
    ),
    "constant": (lambda _, n: [5.0] * n, lambda r, n: r.choice([3.0, 5.0], n).tolist()),
    "texts": (
        lambda r, n: [f"c{one}" for one in r.zipf(1.5, n) % 40],
        lambda r, n: [f"c{one}" for one in r.zipf(1.9, n) % 50],
    ),
    "with_missing": (
        lambda r, n: some_missing(r.normal(0, 1, n).tolist(), r),
        lambda r, n: some_missing(r.normal(0, 1, n).tolist(), r, 0.5),
    ),
    "infinite": (
        lambda r, n: r.choice([-math.inf, *range(30), math.inf], n).tolist(),
        lambda r, n: r.choice([-math.inf, -1.0, *range(20), math.inf], n).tolist(),
    ),
    "often_infinite": (
        lambda r, n: np.where(r.random(n) < 0.4, math.inf, r.normal(0, 1, n)).tolist(),
        lambda r, n: np.where(r.random(n) < 0.1, math.inf, r.normal(0, 2, n)).tolist(),
    ),
    "keys": (
        lambda r, n: [f"k{one}" for one in r.integers(0, n // 3, n)],
        lambda r, n: some_missing([f"k{one}" for one in r.integers(0, n, n)], r),
    ),
    "falls_silent": (lambda r, n: r.normal(0, 1, n).tolist(), lambda _, n: [None] * n),
    "begins_to_speak": (lambda _, n: [None] * n, lambda r, n: some_missing(r.normal(0, 1, n).tolist(), r)),
    "booleans": (lambda r, n: (r.random(n) < 0.3).tolist(), lambda r, n: (r.random(n) < 0.6).tolist()),
}


@pytest.mark.parametrize(("rows_before", "rows_now"), [(60, 40), (230, 900), (1200, 510)])
@pytest.mark.parametrize("name", DRAWS)
def test_it_is_what_a_loop_over_rows_gives(name: str, rows_before: int, rows_now: int) -> None:
    random = np.random.default_rng(SEED)
    print("seed", SEED)
    before, now = DRAWS[name][0](random, rows_before), DRAWS[name][1](random, rows_now)

    for one, other in ((before, now), (now, before), (before, before)):
        expected = oracle.stability_index(one, other)
        assert stability_index(pa.array(one), pa.array(other)) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert stability_index(pa.array(before), pa.array(before)) == 0


def test_chunks_dictionaries_and_other_types_of_the_same_values_change_nothing() -> None:
    random = np.random.default_rng(SEED)
    before, now = random.integers(0, 40, 700), random.integers(5, 60, 500)
    far = stability_index(pa.array(before), pa.array(now))
    texts = [pa.array([f"c{one % 12}" for one in values]) for values in (before, now)]

    assert stability_index(pa.array(before).cast(pa.float32()), pa.array(now).cast(pa.int16())) == far
    pieces = pa.chunked_array([now[:100], now[100:]])
    assert stability_index(pa.chunked_array([before]), pieces) == far
    apart = stability_index(*texts)
    assert apart > 0.01
    encoded = texts[0].dictionary_encode(), texts[1].dictionary_encode()
    assert stability_index(*encoded) == apart
    assert stability_index(texts[0].cast(pa.large_string()), texts[1].cast(pa.string_view())) == apart


def test_nan_is_missing_as_null_is() -> None:
    values = [1.5, 2.5, math.nan, 4.0] * 60

    assert stability_index(pa.array(values), pa.array([1.5, 2.5, None, 4.0] * 60)) == 0


@pytest.mark.parametrize("rows", [200, 300, 500, 5000])
def test_samples_of_one_law_are_nearer_than_what_is_looked_into_however_few(rows: int) -> None:
    random = np.random.default_rng(SEED)
    print("seed", SEED)
    found = [
        stability_index(pa.array(random.normal(size=5 * rows)), pa.array(random.normal(size=rows)))
        for _ in range(300)
    ]

    assert max(found) < 0.2
    moved = stability_index(pa.array(random.normal(size=5 * rows)), pa.array(random.normal(0.8, 1, rows)))
    assert moved > 0.4


@pytest.mark.parametrize("different", [10, 100, 300, 1000])
@pytest.mark.parametrize("rows", [200, 500])
def test_of_many_texts_those_that_are_frequent_by_chance_are_no_drift(rows: int, different: int) -> None:
    random = np.random.default_rng(SEED)
    print("seed", SEED)

    def drawn() -> pa.Array:
        return pa.array([f"c{one}" for one in random.integers(0, different, rows)])

    assert max(stability_index(drawn(), drawn()) for _ in range(60)) < 0.2


def test_a_constant_that_becomes_less_is_far_though_nothing_exceeds_what_was() -> None:
    assert stability_index(pa.array([5.0] * 300), pa.array([3.0] * 300)) > 9


def test_the_farthest_comes_first_and_equals_by_name() -> None:
    before = pa.table({"b": [1, 2] * 150, "a": [1, 2] * 150, "c": ["x", "y"] * 150})
    now = pa.table({"b": [1, 2] * 150, "a": [1, 2] * 150, "c": ["x", "x"] * 150})

    assert list(distances(before, now, ["b", "a", "c"])) == ["c", "a", "b"]


def test_what_is_no_single_value_or_of_another_kind_now_is_left_out() -> None:
    before = pa.table({"list": [[1]] * 60, "turned": [1.0] * 60, "gone": ["x"] * 60, "stays": [True] * 60})
    now = pa.table({"list": [[2]] * 60, "turned": ["1"] * 60, "gone": pa.nulls(60), "stays": [True] * 60})

    found = distances(before, now, before.column_names)

    assert list(found) == ["gone", "stays"]
    assert found["gone"] > 9
    assert not can_be_compared(pa.timestamp("us"), pa.timestamp("us"))
    assert can_be_compared(pa.int64(), pa.float32())


def test_what_cannot_be_compared_is_told() -> None:
    with pytest.raises(TrainError, match=r'no column "dealy"\. Did you mean "delay"'):
        distances(pa.table({"delay": [1]}), pa.table({"delay": [1]}), ["dealy"])
    with pytest.raises(TrainError, match="0 rows now"):
        stability_index(pa.array([1.0]), pa.array([], pa.float64()))
