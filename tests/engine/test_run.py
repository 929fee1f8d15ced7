"""Sorted runs beside NumPy's lexsort, and runs joined that were sorted apart."""

from __future__ import annotations

from random import Random
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest

import mlflow_core as ml
from mlflow_core.engine.events.arrays import gather
from mlflow_core.engine.events.keys import hash_codes, numbered, places_of
from mlflow_core.engine.events.run import sort_events, sort_rows
from mlflow_core.engine.kernels.chronology import chronological
from mlflow_core.engine.kernels.ordering import by_digits, by_hash
from mlflow_core.engine.times import frozen
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


@pytest.mark.parametrize("late", [0.0, 0.1, 0.24, 0.26, 0.9])
@pytest.mark.parametrize("n", [0, 1, 2, 9, 5_000, 20_000])
@pytest.mark.parametrize("ties", [1, 3])
def test_rows_that_come_late_are_put_where_lexsort_puts_them_or_left_as_they_came(n, late, ties):
    rng = np.random.default_rng(n)
    time, then = np.arange(n) // ties, rng.integers(0, 2, n)
    behind = rng.random(n) < late
    time[behind] -= rng.integers(1, 50, int(behind.sum()))
    rows = np.flatnonzero(rng.random(n) < 0.9)

    found, in_order = chronological(frozen(time), frozen(then), rows)

    by_time = rows[np.lexsort((rows, then[rows], time[rows]))]
    assert found.tolist() == (by_time if in_order else rows).tolist()
    if n >= 5_000 and ties == 1:
        assert in_order == (late < 0.25)


@pytest.mark.parametrize("span", [1, 2**11, 2**40, 2**51, 2**53, 2**63])
def test_rows_are_sorted_digit_by_digit_or_left_as_they_are_where_times_are_too_far_apart(span):
    rng = np.random.default_rng(span % 1_000)
    time = rng.integers(-span, span, 4_000) // rng.integers(1, 4, 4_000)
    time[:2] = -span, span - 1
    rows = np.append(rng.permutation(np.arange(2, 4_000))[:3_000], [0, 1])
    before = rows.copy()

    fits = by_digits(frozen(time), rows)

    assert fits == (span < 2**52)
    assert rows.tolist() == (before[np.argsort(time[before], kind="stable")] if fits else before).tolist()


def test_one_time_far_ahead_makes_the_others_no_chaos():
    time = np.arange(1_000)
    time[10] = 10**15

    rows, in_order = chronological(frozen(time), frozen(time), np.arange(1_000))

    assert not in_order
    assert rows.tolist() == list(range(1_000))


@pytest.mark.parametrize("n_bits", [63, 40, 34, 33, 32, 24, 23])
def test_hashes_that_share_their_first_bits_are_still_told_apart(n_bits):
    rng = np.random.default_rng(n_bits)
    heads = rng.integers(0, 2**n_bits, 100, np.uint64) << np.uint64(64 - n_bits)
    codes = rng.choice(heads, 300) | rng.integers(0, 2 ** (64 - n_bits), 300, np.uint64)
    code, rows = rng.choice(codes, 4_000), rng.permutation(4_000)[:3_500]

    order, first, hashed = by_hash(code, rows)

    place = np.empty(4_000, np.int64)
    place[rows] = np.arange(3_500)
    assert order.tolist() == rows[np.lexsort((place[rows], code[rows]))].tolist()
    distinct, starts = np.unique(code[order], return_index=True)
    assert (first.tolist(), hashed.tolist()) == ([*starts, 3_500], distinct.tolist())


@pytest.mark.parametrize("kind", ["float64", "int64"])
def test_numbers_are_picked_as_a_loop_picks_them(kind):
    rng = np.random.default_rng(7)
    values = [None if rng.random() < 0.2 else float(x) for x in rng.integers(-5, 5, 300)]
    if kind == "float64":
        values = [float("nan") if x == 3 else x for x in values]
    column = pa.chunked_array([pa.array(values[:90], kind), pa.array(values[90:], kind)])

    for n in (0, 1, 8, 13, 500):
        places = rng.integers(-2, 300, n)
        found = gather(column, places, name="x", title="t")
        found.validate(full=True)
        assert found.type == column.type
        wanted = [None if place < 0 else values[place] for place in places]
        assert found.to_pylist() == [None if x is None or x != x else x for x in wanted]
    assert gather(column.slice(0, 90).drop_null(), np.array([0]), name="x", title="t").null_count == 0


@pytest.mark.parametrize("bucket", [None, hash_codes])
def test_events_without_a_time_are_left_out_where_there_is_no_entity_too(bucket):
    source = ml.ParquetSource("e", path="e.parquet", event_time="t")
    view = ml.FeatureView("v", source=source, features=["x"])
    events = pa.table({"t": pa.array([None, 7, None, 3, None, None, 9], TIME), "x": range(7)})

    found = sort_events(events, view, columns=["x"], bucket=bucket)

    assert found.run.rows["x"].to_pylist() == [3, 1, 6]
    assert (found.run.first.tolist(), found.dropped_times) == ([0, 3], 4)


def test_numbers_are_picked_from_slices_and_empty_pieces_and_never_beyond_the_last():
    whole = pa.array([1.5, None, -0.0, float("inf"), float("nan"), 2.0])
    column = pa.chunked_array([whole.slice(1, 2), whole.slice(0, 0), whole.slice(3)])

    for few in (np.array([3]), np.array([3, 0, 1, 2, 4, -1, 4, 4, 1, 1])):
        found = gather(column, few, name="x", title="t").to_pylist()
        assert found == [[None, -0.0, float("inf"), None, 2.0][i] if i >= 0 else None for i in few]
    for either in (column, column.cast(pa.float32())):
        with pytest.raises(IndexError, match="place 5 of 5"):
            gather(either, np.array([5]), name="x", title="t")


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
