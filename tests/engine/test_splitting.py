"""Buckets in pieces: whatever the limit, keys in groups and keys cut by time answer as the whole bucket does."""

from __future__ import annotations

from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlflow_core.algebra.sketches import SKETCHED
from mlflow_core.engine.buckets import splitting
from mlflow_core.engine.buckets.splitting import compute_within, snapshot_within
from mlflow_core.engine.events.keys import hash_codes
from mlflow_core.engine.events.run import Run, sort_events, sort_rows
from mlflow_core.engine.events.versions import with_ends
from mlflow_core.engine.views.snapshot import SnapshotPart, snapshot_at, snapshot_of_runs, snapshot_read
from mlflow_core.engine.views.view import compute_runs, value_columns
from mlflow_core.spec import Agg, Entity, Every, FeatureView, ParquetSource
from mlflow_core.testing.histories import History, random_history, read_under
from tests.engine.comparison import differing

SEED = 2_106
WORLDS = pytest.mark.parametrize(
    "worlds", [2, pytest.param(60, marks=pytest.mark.long)], ids=["short", "long"]
)


def parts_of(history: History, clock: str) -> list[Run]:
    """The events in three runs, as a source of three files gives them."""
    read, events = read_under(history.view, clock), history.events
    if history.view.source.event_id is not None:
        events = with_ends(events, history.view, clock)
    columns = value_columns(read, events.column_names)
    found = []
    for first, length in ((0, 20), (20, 31), (51, None)):
        done = sort_events(events.slice(first, length), history.view, columns=columns, bucket=hash_codes)
        found.append(done.run)
    return found


def of_one_key(history: History) -> History:
    """The world with all its events and rows on one key."""

    def moved(table: pa.Table) -> pa.Table:
        for key in history.view.keys:
            kind = table.schema.field(key).type
            value = next((v for v in table[key].to_pylist() if v is not None), None)
            column = pa.array([value] * table.num_rows, kind)
            table = table.set_column(table.column_names.index(key), key, column)
        return table

    events = moved(history.events)
    rows = history.rows
    for key in history.view.keys:
        column = pa.array([events[key][0].as_py()] * rows.num_rows, rows.schema.field(key).type)
        rows = rows.set_column(rows.column_names.index(key), key, column)
    return History(history.view, events, rows)


def worlds_of(number: int):
    random, made = Random(SEED), 0
    while made < number:
        history = random_history(random, events=120, rows=60)
        if history.events.num_rows > 60 and history.rows.num_rows > 20:
            made += 1
            yield history


def answered(history: History, clock: str, limit: int) -> pa.Table:
    read, runs = read_under(history.view, clock), parts_of(history, clock)
    keys = list(history.view.keys)
    wanted = list(dict.fromkeys([*keys, "event_timestamp"]))
    asked = sort_rows(history.rows.select(wanted), keys, "event_timestamp", bucket=hash_codes)
    back = np.empty(len(asked.place), np.int64)
    back[asked.place] = np.arange(len(asked.place))
    return compute_within(runs, asked.run, read, time_column="event_timestamp", limit=limit, back=back)


@WORLDS
@pytest.mark.parametrize("clock", ["event", "known", "served"])
def test_keys_in_groups_answer_as_all_at_once(clock, worlds):
    for history in worlds_of(worlds):
        whole = answered(history, clock, 1 << 40)
        assert differing(history, clock, whole) == []
        for limit in (1, 500, 4_000):
            assert differing(history, clock, answered(history, clock, limit)) == []


@WORLDS
@pytest.mark.parametrize("clock", ["event", "known", "served"])
def test_a_key_that_alone_does_not_fit_is_cut_by_time_and_answers_the_same(clock, worlds, monkeypatch):
    calls = 0

    def counted(*args, **kwargs) -> pa.Table:
        nonlocal calls
        calls += 1
        return compute_runs(*args, **kwargs)

    monkeypatch.setattr(splitting, "compute_runs", counted)
    for history in map(of_one_key, worlds_of(worlds)):
        for limit in (1, 2_000, 8_000):
            assert differing(history, clock, answered(history, clock, limit)) == []
    assert calls > 10 * worlds


@pytest.mark.parametrize("clock", ["event", "known", "served"])
def test_cutting_by_time_leaves_most_of_a_long_past_out(clock, monkeypatch):
    n, day = 20_000, 86_400_000_000
    source = ParquetSource("s", path="s.parquet", event_time="t", known_at="k")
    view = FeatureView(
        "v",
        entity=Entity("e"),
        source=source,
        features=["x", Agg("x", "sum", over="1d")],
        availability=Every("1h", delay="10m"),
    )
    random = np.random.default_rng(SEED)
    t = np.sort(random.integers(0, 1_000 * day, n))
    times = {"t": t, "k": t + random.integers(0, 3 * day, n) * (random.random(n) < 0.1)}
    events = pa.table(
        {"e": pa.array(np.zeros(n, np.int64)), "x": pa.array(random.integers(0, 9, n))}
        | {name: pa.array(values).cast(pa.timestamp("us", "UTC")) for name, values in times.items()}
    )
    asked_at = pa.array(random.integers(0, 1_000 * day, 3_000)).cast(pa.timestamp("us", "UTC"))
    rows = pa.table({"e": pa.array(np.zeros(3_000, np.int64)), "event_timestamp": asked_at})
    history = History(view, events, rows)
    whole, largest = answered(history, clock, 1 << 40), 0

    def measured(runs, *args, **kwargs) -> pa.Table:
        nonlocal largest
        largest = max(largest, sum(run.rows.num_rows for run in runs))
        return compute_runs(runs, *args, **kwargs)

    monkeypatch.setattr(splitting, "compute_runs", measured)

    assert answered(history, clock, 32_000).equals(whole)
    assert 0 < largest < n // 10


@WORLDS
@pytest.mark.parametrize("one_key", [False, True])
@pytest.mark.parametrize("served", [False, True])
def test_a_boundary_within_bounds_is_the_boundary_computed_at_once(served, one_key, worlds):
    for history in worlds_of(worlds):
        view = history.view if served else history.view.model_copy(update={"availability": None})
        world = History(view, history.events, history.rows)
        world, read = of_one_key(world) if one_key else world, snapshot_read(view)
        runs, times = parts_of(world, read.clock), world.events["t"].cast(pa.int64())
        least, most = (int(end.as_py()) for end in (pc.min(times), pc.max(times)))
        for boundary in (least, (least + most) // 2, most + 20):
            whole = listed(snapshot_at(world.events, read, boundary).table, view)
            for limit in (1, 4_000):
                parts = list(snapshot_within(runs, read, boundary, limit=limit))
                assert listed(pa.concat_tables(part.table for part in parts), view) == whole
                assert sum(part.entities for part in parts) == len(whole)


def listed(table: pa.Table, view: FeatureView) -> list[dict]:
    """The rows by key, floating sums as exact as they are promised, and only of values of one size."""
    loose = [
        window.name
        for window in view.windows
        if window.function.name in ("sum", "mean", "std", "var") or window.function.name in SKETCHED
    ]
    kept = table.drop_columns(loose)
    return sorted(kept.to_pylist(), key=lambda row: repr([row[key] for key in view.keys]))


def test_a_boundary_on_a_hot_key_reads_no_more_than_its_windows_need(monkeypatch):
    n, day = 20_000, 86_400_000_000
    source = ParquetSource("s", path="s.parquet", event_time="t")
    view = FeatureView("v", entity=Entity("e"), source=source, features=["x", Agg("x", "sum", over="1d")])
    t = np.sort(np.random.default_rng(SEED).integers(0, 1_000 * day, n))
    events = pa.table({"e": pa.array(np.zeros(n, np.int64)), "x": np.arange(n)}).append_column(
        "t", pa.array(t).cast(pa.timestamp("us", "UTC"))
    )
    read, largest = snapshot_read(view), 0
    runs = parts_of(History(view, events, events), "event")

    def measured(runs, *args) -> SnapshotPart:
        nonlocal largest
        largest = max(largest, sum(run.rows.num_rows for run in runs))
        return snapshot_of_runs(runs, *args)

    monkeypatch.setattr(splitting, "snapshot_of_runs", measured)

    [found] = snapshot_within(runs, read, 500 * day, limit=32_000)

    assert found.table.equals(snapshot_at(events, read, 500 * day).table)
    assert 0 < largest < 100
