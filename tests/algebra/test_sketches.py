"""Sketches: within their stated error in 99 of 100 seeds, the same bits for the same recipe, merge like union."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from datasketches import kll_doubles_sketch

from mlflow_core.algebra.aggregates import aggregate_of
from mlflow_core.algebra.kll import RANK_ERROR, K, kll_bytes, kll_from_bytes, kll_joined, kll_of, kll_quantile
from mlflow_core.algebra.sketches import SKETCHED, sketched, stated_error
from mlflow_core.spec import Function

SEEDS = 200
SHAPES: dict[str, Callable] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "seven values": lambda rng, n: rng.integers(0, 7, n).astype(float),
    "sorted": lambda rng, n: np.arange(n, dtype=float),
    "falling": lambda rng, n: -np.arange(n, dtype=float),
    "periodic": lambda rng, n: np.arange(n) % 256 * 1.0,
    "400 magnitudes": lambda rng, n: 10.0 ** rng.uniform(-200, 200, n),
    "infinities": lambda rng, n: rng.choice([-np.inf, -1.0, 0.0, 1.0, 1.7e308, np.inf], n),
    "mostly zero": lambda rng, n: np.where(rng.random(n) < 0.7, 0.0, rng.exponential(size=n)),
}
CASES = [Function("approx_quantile", 0.0), Function("approx_count_distinct"), Function("top_k", 5)]


def in_pieces(kind, values, rng):
    """Sketch uneven pieces and join them in uneven groups, by way of their bytes."""
    cuts = np.sort(rng.integers(0, len(values) + 1, rng.integers(1, 30)))
    sketches = [kind.of(piece, salt=at) for at, piece in enumerate(np.split(values, cuts))]
    while len(sketches) > 1:
        width = int(rng.integers(2, 5))
        groups = [sketches[at : at + width] for at in range(0, len(sketches), width)]
        sketches = [kind.load(kind.dump(kind.joined(group, salt=at))) for at, group in enumerate(groups)]
    return sketches[0]


def rank_error(values, q: float, answer: float) -> float:
    return max(0.0, (values < answer).mean() - q, q - (values <= answer).mean())


def occurrence_error(values, answer: list) -> float:
    """How much more often a value occurs than one that is listed before it, as a share of all."""
    counts = Counter(values.tolist())
    listed = [counts[value] for value in answer]
    missing = max((count for value, count in counts.items() if value not in answer), default=0)
    after = [*listed[1:], missing]
    return max(max(later, 0) - count for count, later in zip(listed, after, strict=True)) / len(values)


@pytest.mark.parametrize("merged", [False, True], ids=["at once", "merged"])
def test_quantiles_are_within_their_stated_rank_error_in_99_of_100_seeds(merged, record_property):
    worst, beyond = 0.0, []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        shape, n = list(SHAPES)[seed % len(SHAPES)], int(rng.choice([300, 2_000, 20_000]))
        values, q = SHAPES[shape](rng, n), float(rng.choice([0.0, 0.01, 0.5, 0.9, 0.99, 1.0, rng.random()]))
        kind = sketched(Function("approx_quantile", q))
        answer = kind.result(in_pieces(kind, values, rng) if merged else kind.of(values))
        error = rank_error(values, q, answer)
        worst = max(worst, error)
        assert answer in values
        if error > stated_error(Function("approx_quantile", q)):
            beyond.append((seed, shape, n, q, error))
    record_property(
        "figures", f"{SEEDS} seeds, worst rank error {worst:.4f} of {RANK_ERROR}, {len(beyond)} beyond"
    )
    assert len(beyond) <= SEEDS // 100, beyond


@pytest.mark.parametrize("merged", [False, True], ids=["at once", "merged"])
def test_distinct_counts_are_within_their_stated_error_in_99_of_100_seeds(merged, record_property):
    function = Function("approx_count_distinct")
    kind, beyond, worst = sketched(function), [], 0.0
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        n = int(rng.choice([50, 1_000, 5_000, 20_000]))
        values = rng.integers(0, rng.choice([n // 10, n, 2**40]), n)
        truth = len(np.unique(values))
        answer = kind.result(in_pieces(kind, values, rng) if merged else kind.of(values))
        error = abs(answer - truth) / truth
        worst = max(worst, error)
        if error > stated_error(function):
            beyond.append((seed, n, truth, answer))
        if truth <= kind.exact_up_to:
            assert answer == truth
    record_property("figures", f"{SEEDS} seeds, worst relative error {worst:.4f}, {len(beyond)} beyond")
    assert len(beyond) <= SEEDS // 100, beyond


@pytest.mark.parametrize("merged", [False, True], ids=["at once", "merged"])
def test_the_most_frequent_values_keep_their_promise_in_every_seed(merged, record_property):
    worst = 0.0
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        n, k = int(rng.choice([200, 3_000, 20_000])), int(rng.integers(1, 11))
        values = rng.zipf(float(rng.uniform(1.05, 2.5)), n) if seed % 4 else rng.integers(0, n, n)
        function = Function("top_k", k)
        kind = sketched(function)
        answer = kind.result(in_pieces(kind, values, rng) if merged else kind.of(values))
        error = occurrence_error(values, answer)
        worst = max(worst, error)
        assert error <= stated_error(function), (seed, n, k)
        if len(np.unique(values)) <= kind.exact_up_to:
            counts = Counter(values.tolist())
            assert answer == sorted(counts, key=lambda value: (-counts[value], value))[:k], seed
        else:
            assert len(answer) <= k
    record_property("figures", f"{SEEDS} seeds, worst share of occurrences {worst:.5f}")


@pytest.mark.parametrize("function", CASES, ids=str)
def test_the_same_recipe_gives_the_same_bytes_and_in_another_process_too(function):
    script = (
        "import numpy as np\n"
        "from mlflow_core.algebra.sketches import sketched\n"
        "from mlflow_core.spec import Function\n"
        f"kind = sketched({function!r})\n"
        "values = np.random.default_rng(3).zipf(1.2, 5000)\n"
        "print(kind.dump(kind.joined([kind.of(values[:999], salt=1), kind.of(values[999:], salt=2)])).hex())\n"
    )
    here = [
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    ]

    assert here[0] == here[1]
    assert len(here[0]) > 100


def test_datasketches_reads_our_quantile_sketches_and_we_read_its():
    rng = np.random.default_rng(5)
    for n in (0, 1, 2, K, K + 1, 5_000, 100_000):
        values = rng.normal(size=n)
        ours = kll_of(values)
        theirs = kll_doubles_sketch.deserialize(kll_bytes(ours))
        assert theirs.n == n
        assert theirs.serialize() == kll_bytes(ours)
        assert kll_bytes(kll_from_bytes(kll_bytes(ours))) == kll_bytes(ours)
        theirs.update(values)
        back = kll_from_bytes(theirs.serialize())
        assert back.n == 2 * n == sum(len(level) << h for h, level in enumerate(back.levels))
        if n:
            assert rank_error(values, 0.4, kll_quantile(back, 0.4)) <= RANK_ERROR
            assert (back.low, back.high) == (values.min(), values.max())
    assert len(kll_bytes(kll_of(rng.normal(size=1_000_000)))) < 6_000


def test_bytes_of_something_else_are_refused():
    with pytest.raises(ValueError, match="no KLL sketch"):
        kll_from_bytes(sketched(Function("top_k", 1)).dump(sketched(Function("top_k", 1)).of(["a", "b"])))
    with pytest.raises(ValueError, match="k 100"):
        kll_from_bytes(kll_doubles_sketch(100).serialize())


def test_the_coin_falls_both_ways_for_equal_values_from_different_places():
    values = np.arange(256.0)
    bits = {kll_bytes(kll_of(values, salt)) for salt in range(20)}
    assert len(bits) == 2
    assert kll_bytes(kll_joined([kll_of(values, 7)])) == kll_bytes(kll_of(values, 7))


@pytest.mark.parametrize(
    "values",
    [
        ["", "a", "é", "a", ""],
        [3, -5, 2**62, 3, -5],
        [0.5, -0.0, 0.0, float("inf"), 1e300],
        [True, False, True],
        [b"", b"\xff", b""],
        [uuid.UUID(int=1), uuid.UUID(int=2), uuid.UUID(int=1)],
        [dt.datetime(2013, 1, 1, tzinfo=dt.UTC), dt.datetime(1969, 12, 31, 23, tzinfo=dt.UTC)],
    ],
    ids=["strings", "integers", "floats", "booleans", "bytes", "uuids", "times"],
)
def test_folds_over_values_of_every_kind_give_them_back(values):
    counts = Counter(values)
    frequent = sorted(counts, key=lambda value: (-counts[value], value))
    for function, truth in ((CASES[1], len(counts)), (Function("top_k", 2), frequent[:2])):
        aggregate = aggregate_of(function, None)
        random, events = Random(1), list(enumerate(values))
        for _ in range(3):
            random.shuffle(events)
            states = [aggregate.init, aggregate.init]
            for at, value in events:
                states[at % 2] = aggregate.update(states[at % 2], value, (at, 0, at))
            assert all(isinstance(state, bytes) for state in states)
            assert aggregate.finish(aggregate.merge(*states)) == truth
            assert aggregate.finish(aggregate.merge(*reversed(states))) == truth
    assert {type(one) for one in aggregate.finish(aggregate.merge(*states))} == {type(frequent[0])}


def test_what_is_large_is_folded_one_by_one_within_the_error_too():
    rng = np.random.default_rng(11)
    values = rng.normal(size=3_000)
    aggregate = aggregate_of(Function("approx_quantile", 0.9), None)
    state = aggregate.init
    for at, value in enumerate(values.tolist()):
        state = aggregate.update(state, value, (at, 0, at))
    assert rank_error(values, 0.9, aggregate.finish(state)) <= RANK_ERROR
    assert len(state) < 4_000


def test_all_that_spec_calls_a_sketch_is_one():
    assert {function.name for function in CASES} == set(SKETCHED)
