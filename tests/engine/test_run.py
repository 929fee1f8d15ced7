"""Sorted runs beside NumPy's lexsort, and runs joined that were sorted apart."""

from __future__ import annotations

from random import Random
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest

import mlflow_core as ml
from mlflow_core.engine.events.keys import numbered, places_of
from mlflow_core.engine.events.run import sort_events, sort_rows
from mlflow_core.engine.views.view import compute_runs, compute_view, value_columns
from mlflow_core.plan.retrieval import ViewRead

TIME = pa.timestamp("us", tz="UTC")
KEYS = {
    "close integers": lambda k: pa.array([None if x is None else x - 3 for x in k], pa.int64()),
    "far integers": lambda k: pa.array([None if x is None else (x - 3) * 2**58 for x in k], pa.int64()),
    "narrow integers": lambda k: pa.array(k, pa.int16()),
    "strings": lambda k: pa.array([None if x is None else f"k{x}" for x in k]),
    "dictionaries": lambda k: pa.array([None if x is None else f"k{x}" for x in k]).dictionary_encode(),
    "bytes": lambda k: pa.array([None if x is None else bytes([x]) for x in k]),
    "UUIDs": lambda k: pa.array([None if x is None else UUID(int=x).bytes for x in k], pa.uuid()),
}


def made(random: Random, n: int, keys: int) -> dict[str, list[int | None]]:
    return {
        "k": [random.choice([None, *range(keys)]) for _ in range(n)],
        "t": [random.choice([None, *range(40)]) for _ in range(n)],
        "created": [random.choice([None, *range(3)]) for _ in range(n)],
        "x": list(range(n)),
    }


def view_of(*features) -> ml.FeatureView:
    source = ml.ParquetSource("e", path="e.parquet", event_time="t", created="created")
    return ml.FeatureView("v", entity=ml.Entity("k"), source=source, features=features or ["x"])


@pytest.mark.parametrize("kind", KEYS)
def test_events_are_sorted_as_lexsort_sorts_them_and_buckets_come_first(kind):
    data = made(Random(kind), 500, 7)
    events = pa.table(
        {"k": KEYS[kind](data["k"]), **{c: pa.array(data[c], TIME) for c in ("t", "created")}, "x": data["x"]}
    )

    found = sort_events(
        events, view_of(), columns=["t", "x"], bucket=lambda keys: np.arange(keys.num_rows) % 3
    )

    kept = [i for i in range(500) if data["k"][i] is not None and data["t"][i] is not None]
    assert found.dropped_keys == data["k"].count(None)
    assert found.dropped_times == 500 - found.dropped_keys - len(kept)
    assert found.run.code.tolist() == sorted(found.run.code.tolist())
    assert found.run.rows.num_rows == len(kept) == found.run.first[-1]
    for place, key in enumerate(found.run.keys["k"].to_pylist()):
        part = found.run.part(place, place + 1)
        same = [i for i in kept if events["k"][i].as_py() == key]
        made_at = [data["t"][i] if data["created"][i] is None else data["created"][i] for i in same]
        order = np.lexsort((same, made_at, [data["t"][i] for i in same]))
        assert part.rows["x"].to_pylist() == [same[i] for i in order]
    left = sort_events(events, view_of(), columns=None).run
    assert left.rows is events
    assert sorted(left.order.tolist()) == kept


def test_entity_rows_keep_their_null_keys_in_one_place():
    rows = pa.table({"k": ["b", None, "a", "b"], "at": pa.array([5, 1, 2, 4], TIME), "more": [0, 1, 2, 3]})

    found = sort_rows(rows, ["k"], "at")

    by_key = {
        key: found.run.part(i, i + 1).rows["more"].to_pylist()
        for i, key in enumerate(found.run.keys["k"].to_pylist())
    }
    assert by_key == {"a": [2], "b": [3, 0], None: [1]}
    assert found.place.tolist() == found.run.rows["more"].to_pylist()


def test_composite_keys_with_a_null_part_are_no_key_and_many_parts_do_not_overflow():
    wide = [pa.chunked_array([np.arange(200) * 7 % 199]) for _ in range(12)]
    code, n_codes = numbered(wide, 200, "t")
    assert len(set(code.tolist())) == 199
    assert code.max() < n_codes <= 4 * 200
    holed = [pa.chunked_array([[1, None, 1]]), pa.chunked_array([["a", "a", "a"]])]
    assert (numbered(holed, 3, "t")[0] >= 0).tolist() == [True, False, True]


def test_keys_are_found_among_others_and_nulls_never():
    among = pa.table({"a": [3, 1, None], "b": ["x", "y", "z"]})
    wanted = pa.table({"a": pa.array([1, 3, None, 1], pa.int32()), "b": ["y", "x", "z", "x"]})
    assert places_of(wanted, among).tolist() == [1, 0, -1, -1]
    assert places_of(pa.table({"a": pa.nulls(2), "b": ["x", "y"]}), among).tolist() == [-1, -1]


@pytest.mark.parametrize("clock", ["event", "known"])
@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_runs_sorted_apart_join_as_the_whole_table_does(clock, pieces):
    random = Random(f"{clock} {pieces}")
    data = made(random, 300, 5)
    data["known"] = [None if t is None else t + random.choice([0, 0, 9]) for t in data["t"]]
    source = ml.ParquetSource("e", path="e.parquet", event_time="t", created="created", known_at="known")
    view = ml.FeatureView(
        "v",
        entity=ml.Entity("k"),
        source=source,
        features=["x", ml.Agg("x", ["sum", "min", "last(2)"], over="10us"), ml.Agg("*", "count", over="3us")],
        ttl="20us",
    )
    events = pa.table(
        {"k": data["k"], "x": data["x"], **{c: pa.array(data[c], TIME) for c in ("t", "created", "known")}}
    )
    rows = pa.table(
        {
            "k": [random.choice([None, *range(7)]) for _ in range(80)],
            "event_timestamp": pa.array([random.randint(0, 45) for _ in range(80)], TIME),
        }
    )
    read = ViewRead(view, view.feature_names, clock, (("k", "k"),))
    cuts = sorted(random.sample(range(1, 300), pieces - 1))
    runs = [
        sort_events(events.slice(a, b - a), view, columns=value_columns(read, events.column_names)).run
        for a, b in zip([0, *cuts], [*cuts, 300], strict=True)
    ]

    asked = sort_rows(rows, ["k"], "event_timestamp")
    apart = compute_runs(runs, asked.run, read)

    whole = compute_view(events, rows, read).take(pa.array(asked.place))
    assert apart.equals(whole)
