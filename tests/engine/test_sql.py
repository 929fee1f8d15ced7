"""A second and a third opinion: the same small worlds asked in SQL, in DuckDB and in SQLite."""

from __future__ import annotations

from collections import Counter
from random import Random
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_core.engine.views.view import compute_view
from mlflow_core.testing.histories import random_history, read_under
from mlflow_core.testing.strategies import histories
from tests.oracle import duckdb, sqlite
from tests.oracle.seen import differing

SEED = 11
CLOCKS = ("event", "known", "served")
BY_BOTH = {"latest", "count", "count_distinct", "sum", "mean", "min", "max", "first", "last"}
BY = {"duckdb": (duckdb, BY_BOTH | {"quantile", "var", "std"}), "sqlite": (sqlite, BY_BOTH)}
LONG = pytest.mark.long


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("database", list(BY))
@pytest.mark.parametrize(
    ("worlds", "at_least"), [(5, 500), pytest.param(60, 6_000, marks=LONG)], ids=["short", "long"]
)
def test_sql_over_the_raw_events_gives_the_same_values(database, clock, worlds, at_least, record_property):
    oracle, functions = BY[database]
    random = Random(SEED)
    counted: Counter = Counter()
    wrong: list[str] = []
    started = perf_counter()
    for _ in range(worlds):
        history = random_history(random, events=110, rows=100)
        answers = compute_view(history.events, history.rows, read_under(history.view, clock))
        wrong += differing(history, answers, oracle.opinions(history, clock), counted)
    shares = "  ".join(f"{name} {n:,}" for name, n in sorted(counted.items()))
    figures = f"{counted.total():,} values in {perf_counter() - started:.0f} s, {len(wrong)} differ"
    record_property("figures", f"{database}, {clock}, seed {SEED}: {figures}: {shares}")

    assert wrong[:5] == []
    assert set(counted) == functions
    assert {name: n for name, n in counted.items() if n < at_least} == {}


@settings(max_examples=8)
@given(history=histories(), clock=st.sampled_from(CLOCKS))
@pytest.mark.parametrize("database", list(BY))
def test_sql_gives_the_same_values_in_each_world_that_hypothesis_draws(database, history, clock):
    answers = compute_view(history.events, history.rows, read_under(history.view, clock))
    assert differing(history, answers, BY[database][0].opinions(history, clock), Counter()) == []


@pytest.mark.parametrize("database", list(BY))
def test_sql_itself_sees_a_wrong_value(database, monkeypatch: pytest.MonkeyPatch):
    from mlflow_core.engine.views import windows

    right = windows.window_edges
    monkeypatch.setattr(windows, "window_edges", lambda *given: (right(*given)[0], right(*given)[1] + 1))
    random = Random(SEED)
    wrong: list[str] = []
    for _ in range(3):
        history = random_history(random, events=110, rows=40)
        answers = compute_view(history.events, history.rows, read_under(history.view, "event"))
        wrong += differing(history, answers, BY[database][0].opinions(history, "event"), Counter())
    assert wrong
