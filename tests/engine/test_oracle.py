"""The engine against the naive truth: hypothesis looks for a counterexample, a seeded run compares in bulk."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_core.testing.histories import random_history
from mlflow_core.testing.strategies import histories
from tests.engine.comparison import mismatches

CLOCKS = ("event", "known", "served")


@dataclass(frozen=True)
class Bulk:
    """How many worlds a seeded run compares, and what it must have compared at least."""

    seed: int
    worlds: int
    values: int
    each: int


SHORT = Bulk(seed=20131101, worlds=24, values=200_000, each=1_000)
LONG = Bulk(seed=20131115, worlds=200, values=1_000_000, each=5_000)


@settings(max_examples=40)
@given(history=histories(), clock=st.sampled_from(CLOCKS))
def test_every_value_is_what_a_plain_loop_over_the_events_gives(history, clock):
    assert mismatches(history, clock) == []


@pytest.mark.long
@settings(max_examples=600)
@given(history=histories(events=45, rows=10), clock=st.sampled_from(CLOCKS))
def test_every_value_is_what_a_plain_loop_gives_in_many_more_worlds(history, clock):
    assert mismatches(history, clock) == []


@pytest.mark.parametrize("bulk", [SHORT, pytest.param(LONG, marks=pytest.mark.long)], ids=["short", "long"])
def test_values_in_bulk_agree_with_the_truth_for_each_aggregate_and_clock(bulk, record_property):
    random = Random(bulk.seed)
    counted: Counter = Counter()
    wrong: list[str] = []
    started = perf_counter()
    for _ in range(bulk.worlds):
        history = random_history(random, events=90, rows=75)
        for clock in CLOCKS:
            wrong += mismatches(history, clock, counted)
    functions = sorted({label for label, _ in counted if "," not in label})
    pairs = [(label, clock) for label in functions for clock in CLOCKS]
    compared = sum(counted[pair] for pair in pairs)
    figures = [
        f"seed {bulk.seed}: {compared:,} values of {bulk.worlds} worlds compared in {perf_counter() - started:.0f} s,"
        f" {len(wrong)} differ, at least {min(counted[pair] for pair in pairs):,} for each aggregate and clock"
    ]
    for label in functions:
        shares = (
            f"{clock} {counted[label, clock]:>7,} ({counted[f'{label}, not empty', clock]:>6,} not empty)"
            for clock in CLOCKS
        )
        figures.append(f"{label:>16}  " + "  ".join(shares))
    record_property("figures", "\n".join(figures))

    assert wrong[:5] == []
    assert compared >= bulk.values
    assert {pair: counted[pair] for pair in pairs if counted[pair] < bulk.each} == {}
    assert min(counted[f"{label}, not empty", clock] for label, clock in pairs) >= bulk.each // 5


def test_the_oracle_itself_sees_a_wrong_value(monkeypatch: pytest.MonkeyPatch):
    from mlflow_core.engine.views import windows

    right = windows.window_edges
    monkeypatch.setattr(windows, "window_edges", lambda *given: (right(*given)[0], right(*given)[1] + 1))
    random = Random(SHORT.seed)

    assert any(mismatches(random_history(random, events=90, rows=30), "event") for _ in range(3))
