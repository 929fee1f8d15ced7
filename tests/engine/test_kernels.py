"""The kernels beside folds of the algebra, on intervals that have nothing to do with clocks."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from random import Random

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.algebra.aggregates import aggregate_of
from mlflow_core.engine.kernels import chronology, folds, ordering, picking, ranges, sweeps
from mlflow_core.engine.kernels.compile import cache_folder
from mlflow_core.engine.kernels.warming import warm
from mlflow_core.engine.views.values import Sweep, window_values
from mlflow_core.errors import EngineError
from mlflow_core.spec import Function
from mlflow_core.telemetry import SilentProgress
from tests.oracle.features import aggregated, agrees

FUNCTIONS = [
    *(
        Function(name)
        for name in ("count", "count_distinct", "sum", "mean", "std", "var", "min", "max", "first", "last")
    ),
    *(Function("quantile", q) for q in (0.0, 0.1, 0.5, 0.999, 1.0)),
    Function("first", 2),
    Function("last", 4),
]


def random_sweep(random: Random, n_keys: int, n_events: int, n_rows: int):
    key = np.sort(np.array([random.randrange(n_keys) for _ in range(n_events)], np.int64))
    enter = np.array([random.randint(0, 30) for _ in range(n_events)], np.int64)
    leave = enter + np.array([random.randint(-3, 20) for _ in range(n_events)], np.int64)
    row_key = np.sort(np.array([random.randrange(n_keys) for _ in range(n_rows)], np.int64))
    at = np.array([random.randint(-2, 45) for _ in range(n_rows)], np.int64)
    at = at[np.lexsort((at, row_key))]
    edges = np.arange(n_keys + 1)
    sweep = Sweep.of(np.searchsorted(key, edges), key, enter, leave, np.searchsorted(row_key, edges), at)
    inside = [
        [i for i in range(n_events) if key[i] == k and enter[i] <= t < leave[i]]
        for k, t in zip(row_key.tolist(), at.tolist(), strict=True)
    ]
    return sweep, inside


@pytest.mark.parametrize("kind", [pa.float64(), pa.int64()], ids=str)
@pytest.mark.parametrize("seed", range(6))
def test_each_kernel_answers_what_a_fold_of_the_algebra_over_the_same_events_gives(kind, seed):
    random = Random(seed)
    sweep, inside = random_sweep(
        random, n_keys=random.choice([1, 3, 40]), n_events=random.choice([0, 1, 60, 200]), n_rows=50
    )
    choices = (
        [0.5, -1.25, 3.0, None, 1e17, 1e200, -1.7e308, 1.7e308]
        if kind == pa.float64()
        else [0, 7, -3, None, 2**40]
    )
    values = [random.choice(choices) for _ in range(len(sweep.key))]
    counted = np.array([random.random() < 0.8 for _ in values], np.bool_)

    answers = window_values(sweep, pa.array(values, kind), counted, FUNCTIONS, title="v")

    for function, answer in zip(FUNCTIONS, answers, strict=True):
        aggregate = aggregate_of(function, kind)
        for row, given in enumerate(answer.to_pylist()):
            held = [i for i in inside[row] if counted[i] and values[i] is not None]
            state = aggregate.init
            for i in held:
                state = aggregate.update(state, values[i], (i, 0, i))
            truth = aggregated(function, [values[i] for i in held])
            folded = aggregate.finish(state)
            assert agrees(truth, folded, squared=function.name == "std")
            if truth.tolerance is None:
                assert given == folded
            else:
                assert agrees(truth, given, squared=function.name == "std"), (function, given, truth)


def test_a_huge_value_that_has_left_the_window_leaves_no_trace():
    n = 1001
    at = np.arange(n, dtype=np.int64)
    leave = np.full(n, 10_000, np.int64)
    leave[0] = 2_000
    sweep = Sweep.of(
        np.array([0, n]), np.zeros(n, np.int64), at, leave, np.array([0, 2]), np.array([1_500, 2_000])
    )
    values = pa.array([1e17, *[0.1] * 1000])

    total, mean = window_values(
        sweep, values, np.ones(n, np.bool_), [Function("sum"), Function("mean")], title="v"
    )

    assert total[0].as_py() == 1e17 + 100.0
    assert total[1].as_py() == pytest.approx(100.0, rel=1e-13)
    assert mean[1].as_py() == pytest.approx(0.1, rel=1e-13)


def test_what_overflows_on_the_way_to_a_finite_value_is_found_and_what_is_beyond_float64_is_infinite():
    at = np.zeros(4, np.int64)
    leave = np.array([10, 20, 30, 30])
    sweep = Sweep.of(np.array([0, 4]), at, at, leave, np.array([0, 3]), np.array([5, 15, 25]))
    values = pa.array([1.7e308, 1.7e308, -1.5e308, 3e-200])
    functions = [Function(name) for name in ("sum", "mean", "std", "var")]

    total, mean, std, var = window_values(sweep, values, np.ones(4, np.bool_), functions, title="v")

    assert total.to_pylist() == [math.inf, pytest.approx(0.2e308), -1.5e308]
    assert mean.to_pylist() == [
        pytest.approx(1.9 / 4 * 1e308),
        pytest.approx(0.2 / 3 * 1e308),
        pytest.approx(-0.75e308),
    ]
    assert std.to_pylist() == [
        pytest.approx(float(np.std([1.7, 1.7, -1.5, 0], ddof=1)) * 1e308),
        pytest.approx(float(np.std([1.7, -1.5, 0], ddof=1)) * 1e308),
        pytest.approx(float(np.std([-1.5, 0], ddof=1)) * 1e308),
    ]
    assert var.to_pylist() == [math.inf] * 3


def test_a_huge_value_elsewhere_leaves_tiny_ones_as_they_are():
    at = np.array([0, 10, 11], np.int64)
    sweep = Sweep.of(np.array([0, 3]), at * 0, at, at + 5, np.array([0, 1]), np.array([12]))

    total, std = window_values(
        sweep,
        pa.array([1e308, 3e-150, 1e-150]),
        np.ones(3, np.bool_),
        [Function("sum"), Function("std")],
        title="v",
    )

    assert total[0].as_py() == pytest.approx(4e-150, rel=1e-12)
    assert std[0].as_py() == pytest.approx(2e-150 / math.sqrt(2), rel=1e-12)


def test_an_integer_sum_is_exact_to_the_last_bit_of_int64_and_an_error_beyond():
    at = np.zeros(3, np.int64)
    leave = np.array([10, 20, 30])
    sweep = Sweep.of(np.array([0, 3]), at, at, leave, np.array([0, 3]), np.array([5, 15, 25]))
    yes = np.ones(3, np.bool_)

    fits = window_values(sweep, pa.array([-1, 2**63 - 1, -5]), yes, [Function("sum")], title="v")[0]

    assert fits.to_pylist() == [2**63 - 7, 2**63 - 6, -5]
    with pytest.raises(EngineError, match='FeatureView "v": a sum of integers does not fit in int64'):
        window_values(sweep, pa.array([1, 2**63 - 1, 5]), yes, [Function("sum")], title='FeatureView "v"')


def test_events_after_a_rows_own_change_no_bit_of_its_sum():
    random = Random(5)
    values = [random.uniform(-1, 1) for _ in range(777)]
    bits = set()
    for n in (300, 301, 500, 777):
        at = np.arange(n, dtype=np.int64)
        sweep = Sweep.of(
            np.array([0, n]), np.zeros(n, np.int64), at, at + 10_000, np.array([0, 1]), np.array([299])
        )
        total = window_values(
            sweep, pa.array(values[:n]), np.ones(n, np.bool_), [Function("sum")], title="v"
        )[0]
        bits.add(total[0].as_py())

    assert len(bits) == 1


def test_lists_that_do_not_fit_in_one_column_are_refused_before_they_are_made():
    n = 50_000
    at = np.zeros(n, np.int64)
    edges = np.array([0, n])
    sweep = Sweep.of(edges, at, at, at + 9, edges, at)

    with pytest.raises(EngineError, match=r"last\(50000\) has 2,500,000,000 values in all lists together"):
        window_values(sweep, pa.array(at), np.ones(n, np.bool_), [Function("last", n)], title="v")


def test_no_kernel_takes_five_seconds_to_compile_the_first_time(tmp_path):
    watched = """
import time
from contextlib import contextmanager
from types import SimpleNamespace
from mlflow_core.engine.kernels.warming import warm

@contextmanager
def stage(name, total=None, unit=""):
    ticks = [time.process_time()]
    yield SimpleNamespace(advance=lambda n: ticks.append(time.process_time()))
    print(max(b - a for a, b in zip(ticks, ticks[1:])), len(ticks) - 1)

warm(SimpleNamespace(stage=stage))
"""
    fresh = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", watched], env=fresh, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    longest, kernels_compiled = done.stdout.split()
    assert float(longest) < 5.0
    assert int(kernels_compiled) == 27


def test_warming_compiles_each_kernel_once_and_for_good():
    warm(SilentProgress())
    rooms = (chronology, folds, ordering, picking, ranges, sweeps)
    parts = ("by_digits", "inserted", "sort_few")  # which only other kernels call, and are compiled into
    public = {name: getattr(room, name) for room in rooms for name in room.__all__ if name not in parts}
    compiled = {name: len(one.signatures) for name, one in public.items() if hasattr(one, "signatures")}
    random_sweep_and_values = random_sweep(Random(1), 3, 50, 20)[0]
    window_values(random_sweep_and_values, pa.array([0.5] * 50), np.ones(50, np.bool_), FUNCTIONS, title="v")

    assert compiled.pop("picked") == 2  # two types of values
    assert set(compiled.values()) == {1}
    assert {name: len(public[name].signatures) for name in compiled} == compiled
    assert list(cache_folder().rglob("*.nbi"))
