"""The engine against the naive truth: hypothesis looks for a counterexample, a seeded run compares in bulk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, find, given, settings
from hypothesis import strategies as st

from mlflow_core.engine.kernels.folds import fold
from mlflow_core.engine.retrieve import retrieve
from mlflow_core.engine.route import InProcess, OnDask
from mlflow_core.engine.views import view, windows
from mlflow_core.engine.views.values import Sweep
from mlflow_core.spec import Agg, Entity, Every, FeatureView, ParquetSource
from mlflow_core.testing.histories import (
    COLUMNS,
    EXPRESSIONS,
    SPAN,
    History,
    event_choices,
    events_table,
    random_history,
    random_view,
    rows_table,
    told_otherwise,
)
from mlflow_core.testing.strategies import histories
from tests.engine.comparison import differing, mismatches
from tests.engine.worlds import at_path, plan_of, with_source, write_in_parts
from tests.oracle.features import Oracle

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


def sees_an_event(history: History) -> bool:
    oracle = Oracle(history.view, history.events, "event")
    times = history.rows["event_timestamp"].cast(pa.int64()).to_pylist()
    entities = history.rows.to_pylist()
    return any(
        oracle.answer([entity[key] for key in history.view.keys], t)["i"].value is not None
        for entity, t in zip(entities, times, strict=True)
    )


def test_a_world_that_shows_something_shrinks_to_what_shows_it():
    smallest = find(
        histories(events=8, rows=3, columns=("i",)),
        sees_an_event,
        settings=settings(database=None),
        random=Random(SHORT.seed),
    )

    assert smallest.rows.num_rows == 1
    assert 1 <= smallest.events.num_rows <= 2
    assert str(smallest.events.to_pylist()) in repr(smallest)


@dataclass(frozen=True)
class Large:
    """Worlds of one key with so many events that windows are folded from blocks."""

    events: int
    worlds: int
    rows: int
    columns: tuple[str, ...]


FEW = Large(events=5_600, worlds=1, rows=20, columns=("i", "s"))
MANY = Large(events=6_000, worlds=4, rows=40, columns=tuple(COLUMNS))


def seeds_of(large: Large) -> Iterator[int]:
    """Seeds whose view has a window that holds all of a key's events, without a condition."""
    for seed in count():
        drawn = random_view(Random(seed), large.columns)
        if any(one.column == "i" and one.where is None and int(one.over) > SPAN for one in drawn.windows):
            yield seed


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("large", [FEW, pytest.param(MANY, marks=pytest.mark.long)], ids=["short", "long"])
def test_windows_and_keys_of_thousands_of_events_are_the_truth_too(
    large, clock, record_property, monkeypatch
):
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
    for seed in islice(seeds_of(large), large.worlds):
        world = random_history(
            Random(seed),
            events=large.events + 200,
            at_least=large.events,
            rows=large.rows,
            columns=large.columns,
            hot=True,
        )
        apart = with_source(world, event_id=None, deleted=None)
        late = with_source(world, known_at="known", created="made", event_id="id", deleted="gone")
        for history in (apart, late):
            assert mismatches(history, clock, counted)[:5] == []
    compared = sum(n for (label, _), n in counted.items() if "," not in label)
    record_property("figures", f"{clock}: {compared:,} values, {dict(seen)}")
    assert compared > 100
    assert max(n for (what, _), n in seen.items() if what == "largest key") > 4_096
    assert max(n for (what, _), n in seen.items() if what == "longest window") > 4_096 // 2


def one_key(known: Callable[[int], int], *, events: int, rows: int) -> History:
    """A world of one key, whose j-th event is known as many microseconds late as said."""
    declared = FeatureView(
        "v",
        entity=Entity("e", keys=["k"]),
        source=ParquetSource("events", path="events.parquet", event_time="t", known_at="known"),
        columns=EXPRESSIONS,
        features=[
            "i",
            Agg("i", ["count", "sum", "min", "max", "first", "last", "last(3)"], over=["1d", "2d"]),
            Agg("*", "count", over="1d"),
        ],
        availability=Every("1us"),
    )
    random = Random(events)
    times = [j * SPAN // events for j in range(events)]
    values = {name: random.choices(values, k=events) for name, (values, _) in event_choices(1).items()}
    values |= {"k": [1] * events, "m": ["p"] * events, "t": times, "made": times}
    values |= {"i": [j % 7 for j in range(events)], "known": [t + known(j) for j, t in enumerate(times)]}
    asked = {"k": [1] * rows, "m": ["p"] * rows, "event_timestamp": [SPAN + j for j in range(rows)]}
    return History(declared, events_table(values, integer_keys=True), rows_table(asked, integer_keys=True))


HIDDEN = {
    "every other event": (lambda j: 10_000 * (j % 2), {"fold", "count"}),
    "all but the first": (lambda j: 10_000 * (j > 150), {"count", "end", "latest"}),
    "all but the last": (lambda j: 10_000 * (j < 1_500), {"count", "end"}),
}


@pytest.mark.parametrize("clock", ["known", "served"])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_more_hidden_events_than_a_walk_is_worth_are_swept_to_the_truth(hidden, clock, monkeypatch):
    known, expected = HIDDEN[hidden]
    history = one_key(known, events=1_700, rows=200)
    swept: set[str] = set()
    sweep = windows._swept

    def noted(work, members):
        swept.update(windows._FAMILIES[one.function.name] for one in members)
        return sweep(work, members)

    def noted_latest(*given):
        swept.add("latest")
        return Sweep.of(*given)

    monkeypatch.setattr(windows, "_swept", noted)
    monkeypatch.setattr(view, "Sweep", SimpleNamespace(of=noted_latest))

    assert mismatches(history, clock)[:5] == []
    assert swept == expected


@settings(max_examples=20)
@given(history=histories(), clock=st.sampled_from(CLOCKS[1:]))
def test_what_is_swept_for_want_of_patience_is_the_truth_in_any_world(history, clock):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(windows, "_PATIENCE", -1)
        patched.setattr(view, "_PATIENCE", -1)
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
    right = windows.window_edges
    monkeypatch.setattr(windows, "window_edges", lambda *given: (right(*given)[0], right(*given)[1] + 1))
    random = Random(SHORT.seed)

    assert any(mismatches(random_history(random, events=90, rows=30), "event") for _ in range(3))
