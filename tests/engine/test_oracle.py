"""The engine against the naive truth: hypothesis looks for a counterexample, a seeded run compares in bulk."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_core.testing.histories import random_history
from mlflow_core.testing.strategies import histories
from tests.engine.comparison import mismatches

CLOCKS = ("event", "known", "served")
SEED = 20131101
WORLDS = 24
AT_LEAST_VALUES = 200_000
AT_LEAST_EACH = 1_000


@settings(max_examples=40)
@given(history=histories(), clock=st.sampled_from(CLOCKS))
def test_every_value_is_what_a_plain_loop_over_the_events_gives(history, clock):
    assert mismatches(history, clock) == []


def test_two_hundred_thousand_values_agree_with_the_truth_for_each_aggregate_and_clock(record_property):
    random = Random(SEED)
    counted: Counter = Counter()
    wrong: list[str] = []
    for _ in range(WORLDS):
        history = random_history(random, events=90, rows=75)
        for clock in CLOCKS:
            wrong += mismatches(history, clock, counted)
    functions = sorted({label for label, _ in counted if "," not in label})
    compared = sum(counted[label, clock] for label in functions for clock in CLOCKS)
    figures = [f"seed {SEED}: {compared:,} values compared"]
    for label in functions:
        shares = (
            f"{clock} {counted[label, clock]:>6} ({counted[f'{label}, not empty', clock]:>5} not empty)"
            for clock in CLOCKS
        )
        figures.append(f"{label:>16}  " + "  ".join(shares))
    record_property("figures", "\n".join(figures))

    assert wrong[:5] == []
    assert compared >= AT_LEAST_VALUES
    few = {
        pair: n
        for pair in ((f, c) for f in functions for c in CLOCKS)
        if (n := counted[pair]) < AT_LEAST_EACH
    }
    assert few == {}
    assert (
        min(counted[f"{label}, not empty", clock] for label in functions for clock in CLOCKS)
        >= AT_LEAST_EACH // 5
    )


def test_the_oracle_itself_sees_a_wrong_value(monkeypatch: pytest.MonkeyPatch):
    from mlflow_core.engine import view

    right = view.window_interval
    monkeypatch.setattr(view, "window_interval", lambda *given: (right(*given)[0], right(*given)[1] + 1))
    random = Random(SEED)

    assert any(mismatches(random_history(random, events=90, rows=30), "event") for _ in range(3))
