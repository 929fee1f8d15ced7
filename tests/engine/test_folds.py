"""Folds of ranges beside folds of the algebra event by event, short ranges and long, seen wholly and in part."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest

from mlflow_core.algebra.moments import limbs_value
from mlflow_core.engine.kernels.folds import SHORT, fold
from mlflow_core.engine.times import NEVER

NOTHING = np.zeros(0, np.int64)


def ranges_of(random: Random, n: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    low, high = [], []
    for _ in range(rows):
        a, b = sorted((random.randint(0, n), random.randint(0, n)))
        if random.random() < 0.3:
            b = min(n, a + random.randint(0, SHORT + 2))
        low.append(a)
        high.append(b)
    return np.array(low), np.array(high)


def truth(values, seen) -> tuple[int, float, float, float]:
    kept = [x for x, yes in zip(values, seen, strict=True) if yes]
    if not kept:
        return 0, 0.0, 0.0, 0.0
    mean = math.fsum(kept) / len(kept)
    return len(kept), math.fsum(kept), mean, math.fsum((x - mean) ** 2 for x in kept)


@pytest.mark.parametrize("hidden", ["nothing", "some", "a block of them"])
@pytest.mark.parametrize("sizes", [(1, 15, 16, 17), (64, 65, 300), (5_000,)])
def test_a_range_folds_to_what_its_seen_events_fold_to_one_by_one(sizes, hidden):
    random = Random(f"{sizes} {hidden}")
    event_from = np.cumsum([0, *sizes])
    n, rows_a_key = int(event_from[-1]), 40
    row_from = np.arange(len(sizes) + 1) * rows_a_key
    pairs = [ranges_of(random, size, rows_a_key) for size in sizes]
    low = np.concatenate([first + pair[0] for first, pair in zip(event_from, pairs, strict=False)])[None, :]
    high = np.concatenate([first + pair[1] for first, pair in zip(event_from, pairs, strict=False)])[None, :]
    value = np.array([random.choice([random.gauss(0, 1), 1e9, 0.1]) for _ in range(n)])
    whole = np.array([random.choice([2**62, -(2**62), 7]) for _ in range(n)])
    at = np.array([random.randint(0, 100) for _ in range(low.size)])
    start, end = np.zeros(n, np.int64), np.full(n, NEVER)
    if hidden == "some":
        start = np.array([random.choice([0, 0, 0, 50]) for _ in range(n)])
        end = np.array([random.choice([NEVER, NEVER, 80]) for _ in range(n)])
    elif hidden == "a block of them":
        start[n // 4 : n // 2] = 50
        end[n // 2 : 3 * n // 4] = 60

    answers, chosen, enough = fold(
        event_from, row_from, low, high, value, whole, start, end, at, hidden == "nothing", True, 10**9
    )

    assert enough
    for row in range(low.size):
        a, b = int(low[0, row]), int(high[0, row])
        seen = (start[a:b] <= at[row]) & (at[row] < end[a:b])
        count, total, mean, m2 = truth(value[a:b], seen)
        scale = np.abs(value[a:b][seen]).sum()
        assert chosen[0, 0, row] == count
        assert answers[0, 0, row] == pytest.approx(total, abs=1e-12 * scale)
        assert answers[1, 0, row] == pytest.approx(mean, abs=1e-12 * scale)
        assert answers[2, 0, row] == pytest.approx(m2, rel=1e-9, abs=1e-9)
        exactly = sum(int(x) for x in whole[a:b][seen])
        if -(2**63) <= exactly < 2**63:
            assert limbs_value(int(chosen[1, 0, row]), int(chosen[2, 0, row])) == exactly
        if count:
            assert value[chosen[3, 0, row]] == value[a:b][seen].min()
            assert value[chosen[4, 0, row]] == value[a:b][seen].max()
            assert all(a <= chosen[which, 0, row] < b and seen[chosen[which, 0, row] - a] for which in (3, 4))
        else:
            assert (chosen[3, 0, row], chosen[4, 0, row]) == (-1, -1)


def test_a_huge_value_that_left_the_range_leaves_no_trace():
    value = np.concatenate([[1e17], np.full(1_000, 0.1)])
    edges, low, high = np.array([0, len(value)]), np.array([[1]]), np.array([[len(value)]])

    answers, _, _ = fold(
        edges,
        np.array([0, 1]),
        low,
        high,
        value,
        NOTHING,
        NOTHING,
        NOTHING,
        np.zeros(1, np.int64),
        True,
        True,
        0,
    )

    assert answers[0, 0, 0] == pytest.approx(100.0, rel=1e-13)
    assert answers[2, 0, 0] == pytest.approx(0.0, abs=1e-20)


def test_bits_depend_on_a_keys_own_events_only():
    random = Random(3)
    value = np.array([random.gauss(0, 1) for _ in range(700)])
    low, high, at = np.array([[3]]), np.array([[690]]), np.zeros(1, np.int64)
    alone = fold(
        np.array([0, 700]), np.array([0, 1]), low, high, value, NOTHING, NOTHING, NOTHING, at, True, True, 0
    )
    behind_another = fold(
        np.array([0, 37, 737]),
        np.array([0, 0, 1]),
        low + 37,
        high + 37,
        np.concatenate([np.ones(37), value]),
        NOTHING,
        NOTHING,
        NOTHING,
        at,
        True,
        True,
        0,
    )

    assert alone[0].tolist() == behind_another[0].tolist()


def test_patience_runs_out_where_too_many_blocks_must_be_opened():
    n = 4_096
    start = np.where(np.arange(n) % 2, 100, 0)
    edges, low, high = np.array([0, n]), np.array([[0]]), np.array([[n]])
    given = (
        edges,
        np.array([0, 1]),
        low,
        high,
        np.ones(n),
        NOTHING,
        start,
        np.full(n, NEVER),
        np.array([50]),
    )

    assert fold(*given, False, True, 10)[2] is False
    answers, chosen, enough = fold(*given, False, True, 10_000)
    assert (enough, chosen[0, 0, 0], answers[0, 0, 0]) == (True, n // 2, n // 2)
