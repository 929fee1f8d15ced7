"""The engine against the naive truth: hypothesis looks for a counterexample, a seeded run compares in bulk."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import pytest
from hypothesis import assume, find, given, settings
from hypothesis import strategies as st

from mlflow_core.engine.kernels.folds import fold
from mlflow_core.engine.retrieve import retrieve
from mlflow_core.engine.route import InProcess, OnDask
from mlflow_core.engine.views import windows
from mlflow_core.testing.histories import COLUMNS, random_history, told_otherwise
from mlflow_core.testing.strategies import histories
from tests.engine.comparison import differing, mismatches
from tests.engine.worlds import at_path, plan_of, with_source, write_in_parts

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


@settings(max_examples=20)
@given(history=histories(), clock=st.sampled_from(CLOCKS), random=st.randoms(use_true_random=False))
def test_naive_times_other_zones_and_floored_nanoseconds_change_nothing(history, clock, random):
    assert mismatches(history, clock, told=told_otherwise(random, history)) == []


@settings(max_examples=6)
@given(
    history=histories(events=20, rows=8, columns=("f", "s", "i")),
    clock=st.sampled_from(CLOCKS),
    random=st.randoms(use_true_random=False),
    buckets=st.integers(1, 4),
)
def test_on_each_route_every_value_is_what_a_plain_loop_gives(client, history, clock, random, buckets):
    assume(history.events.num_rows)  # a source without a row is an error
    with TemporaryDirectory() as folder:
        told = at_path(told_otherwise(random, history), "events")
        cut = random.randint(0, told.events.num_rows)
        write_in_parts(told, Path(folder) / "events", [(0, cut), (cut, None)])
        plan = plan_of(told.view, clock)
        for route in (InProcess(), OnDask(client, Path(folder) / "work", buckets=buckets)):
            found = retrieve(plan, told.rows, base=folder, route=route)
            assert differing(history, clock, found.select(told.view.feature_names)) == [], route


def test_a_world_that_shows_a_fault_shrinks_to_one_row_and_one_event(monkeypatch: pytest.MonkeyPatch):
    right = windows.window_edges
    monkeypatch.setattr(windows, "window_edges", lambda *given: (right(*given)[0] - 1, right(*given)[1]))

    smallest = find(
        histories(columns=("i",)),
        lambda history: mismatches(history, "event") != [],
        settings=settings(max_examples=200, database=None),
        random=Random(SHORT.seed),
    )

    assert (smallest.events.num_rows, smallest.rows.num_rows) == (1, 1)
    assert str(smallest.events.to_pylist()) in repr(smallest)


@dataclass(frozen=True)
class Large:
    """Worlds of one key with so many events that windows are folded from blocks."""

    events: int
    worlds: int
    rows: int
    columns: tuple[str, ...]


FEW = Large(events=4_400, worlds=1, rows=5, columns=("i",))
MANY = Large(events=6_000, worlds=5, rows=6, columns=tuple(COLUMNS))


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("large", [FEW, pytest.param(MANY, marks=pytest.mark.long)], ids=["short", "long"])
def test_windows_and_keys_of_thousands_of_events_are_the_truth_too(
    large, clock, record_property, monkeypatch
):
    random = Random(20131122)
    seen: Counter = Counter()

    def noted(event_from, row_from, low, high, *rest):
        hidden = "hidden" if not rest[-3] else "seen"
        seen["longest window", hidden] = max(seen["longest window", hidden], int((high - low).max(initial=0)))
        seen["largest key", hidden] = max(
            seen["largest key", hidden], int(np.diff(event_from).max(initial=0))
        )
        return fold(event_from, row_from, low, high, *rest)

    monkeypatch.setattr(windows, "fold", noted)
    counted: Counter = Counter()
    for _ in range(large.worlds):
        world = random_history(
            random,
            events=large.events + 200,
            at_least=large.events,
            rows=large.rows,
            columns=large.columns,
            hot=True,
        )
        late = with_source(world, known_at="known", created="made", event_id="id", deleted="gone")
        for history in (world, late):
            assert mismatches(history, clock, counted)[:5] == []
    record_property("figures", f"{clock}: {counted.total() // 2:,} values, {dict(seen)}")
    assert counted.total() > 0
    assert max(seen["largest key", kind] for kind in ("hidden", "seen")) > 4_096
    assert max(seen["longest window", kind] for kind in ("hidden", "seen")) > 256


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
    right = windows.window_edges
    monkeypatch.setattr(windows, "window_edges", lambda *given: (right(*given)[0], right(*given)[1] + 1))
    random = Random(SHORT.seed)

    assert any(mismatches(random_history(random, events=90, rows=30), "event") for _ in range(3))
