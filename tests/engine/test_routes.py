"""Retrieval and materialisation through files: both routes, any number of buckets, the caller's order."""

from __future__ import annotations

from pathlib import Path
from random import Random

import dask
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster

from mlflow_core.config.settings import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.engine.retrieve import retrieve, retrieve_to_shards
from mlflow_core.engine.route import InProcess, OnDask, choose_route
from mlflow_core.engine.views.view import compute_view
from mlflow_core.errors import EngineError, SourceError, UsageError
from mlflow_core.spec import Agg, Entity, FeatureView, ParquetSource
from mlflow_core.testing.histories import History, random_history, read_under
from tests.engine.comparison import differing
from tests.engine.worlds import at_path, plan_of, write_in_parts
from tests.engine.written import written

SEED = 7


@pytest.fixture
def world(tmp_path: Path) -> History:
    """A world whose events are moved between keys by corrections, in three files."""
    random = Random(SEED)
    while True:
        history = random_history(random, events=120, rows=40)
        if (
            history.view.source.deleted
            and history.view.keys
            and history.events.num_rows > 60 < 3 * history.rows.num_rows
        ):
            break
    write_in_parts(history, tmp_path / "events", [(0, 20), (20, 25), (25, None)])
    return at_path(history, "events")


@pytest.mark.parametrize("clock", ["event", "known", "served"])
def test_both_routes_give_the_truth_whatever_the_number_of_buckets(world, client, tmp_path, clock):
    plan = plan_of(world.view, clock)
    in_process = retrieve(plan, world.rows, base=str(tmp_path))
    assert differing(world, clock, in_process.select(world.view.feature_names)) == []

    for buckets in (1, 2, 5):
        route = OnDask(client, tmp_path / "work", buckets=buckets)
        on_dask = retrieve(plan, world.rows, base=str(tmp_path), route=route)
        assert on_dask.equals(in_process)
    assert list((tmp_path / "work").iterdir()) == []


def test_source_order_is_the_same_however_the_rows_are_cut_into_files(world, client, tmp_path):
    plan = plan_of(world.view, "known")
    before = retrieve(plan, world.rows, base=str(tmp_path))

    write_in_parts(world, tmp_path / "events", [(n, n + 10) for n in range(0, world.events.num_rows, 10)])

    assert retrieve(plan, world.rows, base=str(tmp_path)).equals(before)
    assert retrieve(plan, world.rows, base=str(tmp_path), route=OnDask(client, tmp_path / "work")).equals(
        before
    )


def test_keys_match_across_routes_whatever_arrow_makes_of_them(client, tmp_path):
    source = ParquetSource("s", path="s.parquet", event_time="t")
    view = FeatureView("v", entity=Entity("e", keys=["k", "n"]), source=source, features=["x"])
    n = 200
    events = {"k": [f"key {i % 50}" for i in range(n)], "n": pa.array([i % 4 for i in range(n)], pa.int16())}
    pq.write_table(
        pa.table(events | {"t": pa.array(range(n)).cast(pa.timestamp("us")), "x": list(range(n))}),
        tmp_path / "s.parquet",
    )
    rows = pa.table(
        {
            "k": pa.chunked_array([["key 1", None], ["key 49", "key 2"]]).dictionary_encode(),
            "n": pa.array([1, 2, 1, None], pa.uint8()),
            "event_timestamp": pa.array([n * 1_000] * 4).cast(pa.timestamp("ns")),
        }
    )
    for route in (InProcess(), OnDask(client, tmp_path / "work", buckets=7)):
        out = retrieve(plan_of(view, "event"), rows, base=str(tmp_path), route=route)
        assert out["x"].to_pylist() == [101, None, 149, None]
        assert out.schema.field("k").type == rows.schema.field("k").type


def test_shards_hold_the_entity_rows_in_order_duplicates_included(world, tmp_path):
    plan = plan_of(world.view, "served")
    whole = retrieve(plan, world.rows, base=str(tmp_path))

    shards = retrieve_to_shards(plan, world.rows, base=str(tmp_path), out=tmp_path / "out", rows_per_shard=7)

    assert [path.name for path in shards][:2] == ["part-00000.parquet", "part-00001.parquet"]
    assert len(shards) == -(-world.rows.num_rows // 7)
    assert pa.concat_tables([pq.read_table(path) for path in shards]).equals(whole)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [path.name for path in shards]


@pytest.mark.parametrize(("buckets", "rows_per_shard"), [(1, 7), (3, 1), (3, 13), (5, 40), (None, 10_000)])
def test_shards_written_by_workers_are_those_written_in_this_process(
    world, client, tmp_path, buckets, rows_per_shard
):
    plan = plan_of(world.view, "served")
    here = retrieve_to_shards(
        plan, world.rows, base=str(tmp_path), out=tmp_path / "here", rows_per_shard=rows_per_shard
    )

    there = retrieve_to_shards(
        plan,
        world.rows,
        base=str(tmp_path),
        out=tmp_path / "there",
        route=OnDask(client, tmp_path / "work", buckets=buckets),
        rows_per_shard=rows_per_shard,
    )

    assert [path.name for path in there] == [path.name for path in here]
    assert [pq.read_table(path) for path in there] == [pq.read_table(path) for path in here]
    assert pa.concat_tables([pq.read_table(path) for path in there]).equals(
        retrieve(plan, world.rows, base=str(tmp_path))
    )
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == [path.name for path in there]
    assert list((tmp_path / "work").iterdir()) == []


def test_no_entity_rows_give_one_empty_shard_on_the_workers_too(world, client, tmp_path):
    plan = plan_of(world.view, "known")

    [shard] = retrieve_to_shards(
        plan,
        world.rows.slice(0, 0),
        base=str(tmp_path),
        out=tmp_path / "out",
        route=OnDask(client, tmp_path / "work", buckets=3),
    )

    assert pq.read_table(shard).equals(retrieve(plan, world.rows.slice(0, 0), base=str(tmp_path)))


def test_events_without_a_time_are_counted_apart_from_those_without_a_key(client, tmp_path):
    source = ParquetSource("s", path="s.parquet", event_time="t")
    view = FeatureView("v", entity=Entity("k"), source=source, features=["x"])
    moments = pa.array([1, None, None, 4, None]).cast(pa.timestamp("us"))
    pq.write_table(
        pa.table({"k": ["a", "a", None, None, "c"], "t": moments, "x": [1, 2, 3, 4, 5]}),
        tmp_path / "s.parquet",
    )
    for route in (InProcess(), OnDask(client, tmp_path / "work", buckets=3)):
        done = written(view, 10, base=str(tmp_path), route=route)

        assert done.table["k"].to_pylist() == ["a"]
        assert (done.report.events, done.report.dropped_keys, done.report.dropped_times) == (5, 2, 2)


def test_permuting_and_repeating_entity_rows_permutes_and_repeats_the_answer(world, tmp_path):
    plan = plan_of(world.view, "known")
    before = retrieve(plan, world.rows, base=str(tmp_path))
    order = np.random.default_rng(SEED).integers(0, world.rows.num_rows, 100)

    after = retrieve(plan, world.rows.take(pa.array(order)), base=str(tmp_path))

    assert after.equals(before.take(pa.array(order)))


def test_an_event_in_the_future_of_every_row_changes_nothing(world, tmp_path):
    plan = plan_of(world.view, "event")
    before = retrieve(plan, world.rows, base=str(tmp_path))
    later = pc.add(world.rows["event_timestamp"].cast(pa.int64()), 0).to_numpy().max() + 1
    future = world.events.set_column(
        world.events.column_names.index("t"),
        "t",
        pa.array(np.full(world.events.num_rows, later)).cast(world.events["t"].type),
    )
    pq.write_table(future, tmp_path / "events" / "9.parquet")

    assert retrieve(plan, world.rows, base=str(tmp_path)).equals(before)


@pytest.mark.parametrize("availability", [True, False])
def test_what_is_materialised_at_a_boundary_is_what_the_clock_serves_then(
    world, client, tmp_path, availability
):
    view = world.view.model_copy(update={"ttl": None} | ({} if availability else {"availability": None}))
    boundary = pc.min(world.events["t"].cast(pa.int64())).as_py() + 40
    if availability:
        boundary = view.availability.floor(boundary)
    asked_at = boundary + (int(view.availability.delay) if availability else 0)

    done = written(view, boundary, base=str(tmp_path))

    rows = done.table.select(view.keys).append_column(
        "event_timestamp", pa.array(np.full(done.table.num_rows, asked_at)).cast(world.events["t"].type)
    )
    expected = compute_view(
        world.events, rows, read_under(view, "served" if availability else view.source.clock)
    )
    assert done.table.num_rows > 1
    assert done.table.select(view.feature_names).equals(expected)
    assert done.report.events == world.events.num_rows
    assert done.report.dropped_keys == len(
        [e for e in world.events.select(view.keys).to_pylist() if None in e.values()]
    )
    on_dask = written(view, boundary, base=str(tmp_path), route=OnDask(client, tmp_path / "work", buckets=3))
    assert by_key(on_dask.table, view).equals(by_key(done.table, view))
    assert on_dask.report == done.report


def by_key(table: pa.Table, view: FeatureView) -> pa.Table:
    return table.take(pc.sort_indices(table, sort_keys=[(key, "ascending") for key in view.keys]))


def test_an_entity_whose_last_event_was_deleted_is_materialised_as_empty(tmp_path):
    source = ParquetSource("s", path="s.parquet", event_time="t", event_id="id", deleted="gone")
    view = FeatureView(
        "v", entity=Entity("k"), source=source, features=["x", Agg("*", "count", over="1h", name="n")]
    )
    events = pa.table(
        {
            "k": ["a", "a", "b"],
            "t": pa.array([1, 2, 2]).cast(pa.timestamp("us")),
            "id": [1, 1, 2],
            "gone": [False, True, False],
            "x": [5, 5, 7],
        }
    )
    pq.write_table(events, tmp_path / "s.parquet")

    table = written(view, 10, base=str(tmp_path)).table

    assert table.drop_columns(["__event_time", "__created"]).to_pylist() == [
        {"k": "a", "x": None, "n": 0},
        {"k": "b", "x": 7, "n": 1},
    ]
    assert table["__event_time"].null_count == 1


def test_a_failure_on_a_worker_comes_back_as_the_same_clear_error(client, tmp_path):
    source = ParquetSource("s", path="s.parquet", event_time="t")
    view = FeatureView("v", entity=Entity("k"), source=source, features=[Agg("x", "sum", over="1h")])
    big = pa.table({"k": [1, 1], "t": pa.array([1, 2]).cast(pa.timestamp("us")), "x": [2**62, 2**62]})
    pq.write_table(big, tmp_path / "s.parquet")
    rows = pa.table({"k": [1], "event_timestamp": pa.array([5]).cast(pa.timestamp("us"))})

    for route in (InProcess(), OnDask(client, tmp_path / "work")):
        with pytest.raises(EngineError, match=r'FeatureView "v": a sum of integers does not fit in int64'):
            retrieve(plan_of(view, "event"), rows, base=str(tmp_path), route=route)


def test_a_key_of_another_type_is_refused_with_both_types(world, tmp_path):
    column = world.view.keys[0]
    wrong = pa.array([1.5] * world.rows.num_rows)
    rows = world.rows.set_column(world.rows.column_names.index(column), column, wrong)

    with pytest.raises(
        SourceError, match=r'"k" of the entity rows holds double, column "k" of ParquetSource "events"'
    ):
        retrieve(plan_of(world.view, "event"), rows, base=str(tmp_path))


def test_a_source_keyed_by_floats_or_identified_by_lists_is_refused_before_anything_is_parted(
    client, tmp_path
):
    moments = pa.array([1, 2]).cast(pa.timestamp("us"))
    pq.write_table(
        pa.table({"k": [1.0, 2.0], "n": [1, 2], "id": [[1], [1]], "t": moments, "x": [1, 2]}),
        tmp_path / "s.parquet",
    )
    plain = ParquetSource("s", path="s.parquet", event_time="t")
    floats = FeatureView("v", entity=Entity("k"), source=plain, features=["x"])
    lists = FeatureView(
        "v", entity=Entity("n"), source=plain.model_copy(update={"event_id": "id"}), features=["x"]
    )
    for route in (InProcess(), OnDask(client, tmp_path / "work")):
        with pytest.raises(SourceError, match=r'key column "k" holds double.*A float cannot be a key'):
            written(floats, 9, base=str(tmp_path), route=route)
        with pytest.raises(SourceError, match=r'event_id column "id" holds list<'):
            written(lists, 9, base=str(tmp_path), route=route)


def test_an_entity_row_column_called_like_a_feature_is_refused(world, tmp_path):
    with pytest.raises(UsageError, match='already have a column "f"'):
        retrieve(
            plan_of(world.view, "event"), world.rows.append_column("f", world.rows["k"]), base=str(tmp_path)
        )


def test_small_retrievals_stay_in_process_and_large_ones_go_to_the_cluster(world, client, tmp_path):
    plan = plan_of(world.view, "event")

    assert choose_route(plan, 10, base=str(tmp_path), client=client, workdir=tmp_path) == InProcess()
    assert choose_route(plan, 10**9, base=str(tmp_path), client=None, workdir=None) == InProcess()
    assert choose_route(plan, 10**9, base=str(tmp_path), client=client, workdir=tmp_path) == OnDask(
        client, tmp_path
    )


def test_a_cluster_without_workers_is_one_clear_error_after_a_while(world, tmp_path):
    plan = plan_of(world.view, "event")
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as empty,
        Client(empty) as alone,
        dask.config.set({"distributed.scheduler.no-workers-timeout": "1s"}),
        pytest.raises(
            EngineError, match=r"parting events: the Dask cluster has had no worker for 1 s.*Start workers"
        ),
    ):
        retrieve(plan, world.rows, base=str(tmp_path), route=OnDask(alone, tmp_path / "work"))
    assert list((tmp_path / "work").iterdir()) == []


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr("mlflow_core.engine.cluster.connect._CONNECT_WITHIN_S", 1)
    with (
        pytest.raises(EngineError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"),
        open_cluster(ClusterSettings(address="tcp://127.0.0.1:9")),
    ):
        pass


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_keys_of_entity_rows_that_are_no_utf8_are_refused_on_both_routes(client, tmp_path, kind):
    source = ParquetSource("s", path="s.parquet", event_time="t")
    view = FeatureView("v", entity=Entity("k"), source=source, features=["x"])
    moments = pa.array([1, 2]).cast(pa.timestamp("us"))
    pq.write_table(pa.table({"k": ["a", "b"], "t": moments, "x": [1, 2]}), tmp_path / "s.parquet")
    ends, text = pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"a\xff")
    broken = pa.Array.from_buffers(pa.string(), 2, [None, ends, text])
    if pa.types.is_dictionary(kind):
        broken = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), broken)
    elif kind != broken.type:
        wide = pa.py_buffer(np.array([0, 1, 2], np.int64))
        broken = pa.Array.from_buffers(kind, 2, [None, wide, text])
    rows = pa.table({"k": broken, "event_timestamp": moments})

    for route in (InProcess(), OnDask(client, tmp_path / "work", buckets=3)):
        with pytest.raises(SourceError, match=r'entity rows: key column "k" holds text that is not UTF-8'):
            retrieve(plan_of(view, "event"), rows, base=str(tmp_path), route=route)
