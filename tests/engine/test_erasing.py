"""Erased keys on every path of the engine, against the naive truth and by eye."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlflow_core.engine.dataset.spine import entity_rows
from mlflow_core.engine.events.erasing import erased_until
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.engine.materialise import Ask, materialise
from mlflow_core.engine.retrieve import retrieve
from mlflow_core.engine.route import InProcess, OnDask
from mlflow_core.engine.times import EARLIEST
from mlflow_core.engine.views.snapshot import snapshot_at, snapshot_read
from mlflow_core.engine.views.view import compute_view
from mlflow_core.plan.dataset import plan_dataset
from mlflow_core.plan.erasures import NOTHING_ERASED, Erasure, Erasures
from mlflow_core.sources import read_schema
from mlflow_core.spec import (
    Agg,
    Dataset,
    Entity,
    FeatureService,
    FeatureView,
    Label,
    ParquetSource,
    Spine,
    TimeSplit,
)
from mlflow_core.testing.histories import SPAN, History, random_history, read_under
from mlflow_core.testing.sinks import FolderSink
from mlflow_core.testing.strategies import histories
from tests.engine.comparison import differing
from tests.engine.worlds import at_path, plan_of, write_in_parts
from tests.oracle.erasures import OracleWithout

CLOCKS = ("event", "known", "served")
SEED = 20261122
DAY = 86_400_000_000


def some_erased(random: Random, history: History) -> list[tuple[tuple[str, ...], tuple, int]]:
    """Keys of a world, whole or in part, that were erased at some moment of it."""
    keys = history.view.keys
    sets = [(key,) for key in keys] + ([tuple(keys), tuple(reversed(keys))] if len(keys) > 1 else [])
    rows = history.events.to_pylist() + history.rows.to_pylist()
    times = [t for t in history.events["t"].cast(pa.int64()).to_pylist() if t is not None] or [0]
    found = []
    for _ in range(random.randint(0, 3) if sets and rows else 0):
        columns, row = random.choice(sets), random.choice(rows)
        key = tuple(row[column] for column in columns)
        if None not in key:
            found.append((columns, key, min(times) + random.randint(-2, SPAN + 2)))
    return [*found, (("elsewhere",), (1,), max(times))]  # columns that the view's keys do not have


def erasures_of(erased) -> Erasures:
    return Erasures.of(Erasure(*one) for one in erased)


def at_boundary(view, boundary: int, folder: Path, erased: Erasures, route) -> list[str]:
    """The rows of a materialisation without erased events, in no order."""
    sink = FolderSink(folder / f"sink-{len(list(folder.glob('sink-*')))}")
    [done] = materialise([Ask(view, boundary, sink, erased=erased)], base=str(folder), route=route)
    assert done.failure is None
    return sorted(map(repr, sink.table().to_pylist())) if done.report.sunk.rows else []


def wrong(history: History, clock: str, erased, answers: pa.Table) -> list[str]:
    return differing(
        history, clock, answers, oracle=OracleWithout(history.view, history.events, clock, erased)
    )


@settings(max_examples=60)
@given(history=histories(), clock=st.sampled_from(CLOCKS), random=st.randoms(use_true_random=False))
def test_every_value_is_what_a_loop_gives_that_drops_the_events_of_erased_keys(history, clock, random):
    erased = some_erased(random, history)
    read = read_under(history.view, clock).without(erasures_of(erased))
    assert wrong(history, clock, erased, compute_view(history.events, history.rows, read)) == []


def test_seeded_worlds_hide_many_events_under_each_clock():
    print(f"seed {SEED}")
    random, hidden = Random(SEED), Counter()
    for _ in range(40):
        history = random_history(random, at_least=10)
        erased = some_erased(random, history)
        for clock in CLOCKS:
            read = read_under(history.view, clock)
            found = compute_view(history.events, history.rows, read.without(erasures_of(erased)))
            assert wrong(history, clock, erased, found) == []
            hidden[clock] += not found.equals(compute_view(history.events, history.rows, read))
    assert min(hidden[clock] for clock in CLOCKS) >= 8


@settings(max_examples=6)
@given(
    history=histories(events=20, rows=8, columns=("f", "s", "i")),
    clock=st.sampled_from(CLOCKS),
    random=st.randoms(use_true_random=False),
    buckets=st.integers(1, 3),
)
def test_on_each_route_erased_events_are_not_seen(client, history, clock, random, buckets):
    assume(history.events.num_rows)
    erased = some_erased(random, history)
    with TemporaryDirectory() as folder:
        told = at_path(history, "events")
        cut = random.randint(0, told.events.num_rows)
        write_in_parts(told, Path(folder) / "events", [(0, cut), (cut, None)])
        plan = plan_of(told.view, clock).without(erasures_of(erased))
        boundary = 1 + max(history.rows["event_timestamp"].cast(pa.int64()).to_pylist(), default=0)
        without = snapshot_read(history.view).without(erasures_of(erased))
        expected = sorted(map(repr, snapshot_at(history.events, without, boundary).table.to_pylist()))
        for route in (InProcess(), OnDask(client, Path(folder) / "work", buckets=buckets)):
            found = retrieve(plan, told.rows, base=folder, route=route)
            assert wrong(history, clock, erased, found.select(told.view.feature_names)) == [], route
            done = at_boundary(told.view, boundary, Path(folder), erasures_of(erased), route)
            assert done == expected, route


VIEW = FeatureView(
    "v",
    entity=Entity("person", keys=("k", "m")),
    source=ParquetSource("events", path="events.parquet", event_time="t"),
    features=["x", Agg("x", "sum", over="30d", name="total")],
)
PEOPLE = pa.table(
    {
        "k": ["anna", "anna", "bert", "anna"],
        "m": [1, 2, 1, 1],
        "t": pa.array([10, 20, 30, 50]).cast(pa.timestamp("us", "UTC")),
        "x": [1, 2, 4, 8],
    }
)


def totals(erased: Erasures, at: int = 60) -> dict[tuple[str, int], int]:
    read = snapshot_read(VIEW).without(erased)
    table = snapshot_at(PEOPLE, read, at).table
    return {(row["k"], row["m"]): row["total"] for row in table.to_pylist()}


def test_a_part_of_a_composite_key_is_that_person_in_every_key_that_holds_it():
    assert totals(Erasures.of([Erasure(("k",), ("anna",), 40)])) == {("bert", 1): 4, ("anna", 1): 8}
    assert totals(Erasures.of([Erasure(("m", "k"), (2, "anna"), 40)])) == {
        ("anna", 1): 9,
        ("bert", 1): 4,
    }
    assert totals(Erasures.of([Erasure(("k", "other"), ("anna", 1), 40)])) == totals(NOTHING_ERASED)


def test_the_moment_of_the_erasure_is_erased_and_what_comes_after_it_counts():
    assert totals(Erasures.of([Erasure(("k",), ("anna",), 50)])) == {("bert", 1): 4}
    assert totals(Erasures.of([Erasure(("k",), ("anna",), 49)]))[("anna", 1)] == 8
    twice = [Erasure(("k",), ("anna",), at) for at in (9, 30, 15)]
    assert totals(Erasures.of(twice)) == {("bert", 1): 4, ("anna", 1): 8}


def test_erasing_a_version_does_not_bring_back_the_one_that_it_replaced():
    source = ParquetSource("events", path="e.parquet", event_time="t", created="made", event_id="id")
    view = FeatureView("v", entity=Entity("k"), source=source, features=["x"])
    times = {"t": [10, 11], "made": [10, 20]}
    events = pa.table(
        {name: pa.array(one).cast(pa.timestamp("us", "UTC")) for name, one in times.items()}
        | {"k": ["bert", "anna"], "id": [1, 1], "x": [1, 2]}
    )
    read = snapshot_read(view).without(Erasures.of([Erasure(("k",), ("anna",), 30)]))

    found = snapshot_at(events, read, 40)

    assert found.table.select(["k", "x"]).to_pylist() == [{"k": "bert", "x": None}]
    assert (found.dropped_keys, found.dropped_times) == (0, 0)


@pytest.mark.parametrize(
    ("column", "key", "found"),
    [
        (pa.array([1, 2, None], pa.int32()), 2, [False, True, False]),
        (pa.array([1, 2, None], pa.int64()), "2", [False, False, False]),
        (pa.array(["a", "b", None]).dictionary_encode(), "b", [False, True, False]),
        (pa.array(["a", "b", None], pa.large_string()), b"b", [False, False, False]),
        (pa.array([b"a", b"b", None], pa.binary()), b"b", [False, True, False]),
        (pa.array([b"a", b"b", None], pa.binary(1)), b"b", [False, True, False]),
        (
            pa.array([UUID(int=1).bytes, UUID(int=2).bytes, None], pa.uuid()),
            UUID(int=2),
            [False, True, False],
        ),
        (pa.array([None, None, None], pa.null()), b"b", [False, False, False]),
    ],
)
def test_keys_of_each_type_are_recognised_and_never_taken_for_another_type(column, key, found):
    until = erased_until(pa.table({"k": column}), Erasures.of([Erasure(("k",), (key,), 7)]))
    assert until.tolist() == [7 if one else EARLIEST for one in found]


def test_rows_and_labels_of_a_dataset_are_without_erased_events(tmp_path):
    days = [DAY * day for day in (1, 2, 3, 4, 5, 6)]
    flights = pa.table(
        {
            "k": ["UA", "AA", "UA", "AA", "UA", "AA"],
            "t": pa.array(days).cast(pa.timestamp("us", "UTC")),
            "x": [1, 2, 3, 4, 5, 6],
        }
    )
    pq.write_table(flights, tmp_path / "events.parquet")
    source = ParquetSource("events", path="events.parquet", event_time="t")
    view = FeatureView(
        "v", entity=Entity("k"), source=source, features=[Agg("x", "sum", over="9d", name="s")]
    )
    split = TimeSplit(train_until="1970-01-20", validate_until="1970-01-21")
    declared = Dataset(
        features=FeatureService("f", features=[view]),
        spine=Spine(source),
        label=Label(aggregate=Agg("x", "count", over="2d", name="next"), entity=view.entity, name="next"),
        split=split,
    )
    plan = plan_dataset(declared, lambda one: read_schema(one, str(tmp_path)))
    erased = Erasures.of([Erasure(("k",), ("UA",), days[2])])

    def labels(chosen):
        rows = entity_rows(chosen, str(tmp_path)).table.to_pylist()
        return [(row["k"], row["event_timestamp"].day, row["next"]) for row in rows]

    before, after = labels(plan), labels(plan.without(erased))
    assert [one for one in before if one[0] == "UA"][:2] == [("UA", 2, 1), ("UA", 4, 1)]
    assert [one for one in after if one[0] == "UA" and one[1] <= 4] == []
    assert [one for one in after if one[0] == "AA"] == [one for one in before if one[0] == "AA"]
    alone = replace(plan, erased=NOTHING_ERASED, label=plan.without(erased).label)
    assert [one[2] for one in labels(alone) if one[0] == "UA"][:1] == [0]


def test_a_layout_made_after_an_erasure_does_not_hold_the_keys_bytes(client, tmp_path):
    secret = "anna.of.the.north@example.org"
    events = PEOPLE.set_column(0, "k", pa.array([secret, secret, "bert", "bert"]))
    pq.write_table(events, tmp_path / "events.parquet")
    cache = Cache(tmp_path / "layouts")
    route = OnDask(client, tmp_path / "work", cache=cache)
    plan = plan_of(VIEW, "event")
    rows = pa.table(
        {"k": [secret, "bert"], "m": [1, 1], "event_timestamp": pa.array([60, 60]).cast("timestamp[us]")}
    )
    holding = lambda: [  # noqa: E731
        one for one in (tmp_path / "layouts").rglob("*.arrow") if secret.encode() in one.read_bytes()
    ]

    assert retrieve(plan, rows, base=str(tmp_path), route=route)["total"].to_pylist() == [1, 12]
    assert holding()
    erased = Erasures.of([Erasure(("k",), (secret,), 40)])
    gone = cache.remove(lambda entry: "k" in entry.facts.get("keys", ()))
    assert [one.facts["source"] for one in gone] == ["events"]
    found = retrieve(plan.without(erased), rows, base=str(tmp_path), route=route)

    assert found["total"].to_pylist() == [None, 12]
    assert cache.entries()
    assert not holding()
    assert all(secret not in json.dumps(one.facts) for one in cache.entries())
