"""Layouts: only what is new or changed is laid out again, nothing damaged is trusted, corrections meet everywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client

from mlflow_core.engine.buckets.bucketed import Limits
from mlflow_core.engine.buckets.sharded import features_here
from mlflow_core.engine.buckets.steps import Cluster
from mlflow_core.engine.events import keys, run
from mlflow_core.engine.events.keys import hash_codes
from mlflow_core.engine.layouts import layout
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.engine.layouts.layout import code_edges
from mlflow_core.engine.retrieve import retrieve
from mlflow_core.engine.route import InProcess, OnDask
from mlflow_core.plan.retrieval import RetrievalPlan, ViewRead
from mlflow_core.spec import Agg, Entity, FeatureView, ParquetSource
from mlflow_core.telemetry import SilentProgress
from mlflow_core.testing.histories import random_history
from tests.engine.comparison import differing
from tests.engine.worlds import at_path, plan_of, write_in_parts
from tests.engine.written import written

SEED = 2_101
US = pa.timestamp("us", "UTC")
SMALL = Limits(events=600, features=100)


@pytest.fixture(scope="module")
def here() -> Iterator[Client]:
    """A cluster in this process: what is laid out can be watched."""
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        yield client


@pytest.fixture
def laid(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the parts that were laid out."""
    names: list[str] = []
    write = layout._fill

    def noted(held: Any, part: str, *rest: Any) -> Any:
        names.append(part)
        return write(held, part, *rest)

    monkeypatch.setattr(layout, "_fill", noted)
    return names


VIEW = FeatureView(
    "v",
    entity=Entity("k"),
    source=ParquetSource("events", path="events", event_time="t"),
    features=["x", Agg("x", "sum", over="1h", name="s")],
)


def write_file(folder: Path, name: str, *, first: int, n: int = 50) -> None:
    folder.mkdir(exist_ok=True)
    at = np.arange(first, first + n)
    table = {"k": pa.array(at % 7), "t": pa.array(at).cast(US), "x": pa.array(at * 10)}
    pq.write_table(pa.table(table | {"y": pa.array(at)}), folder / name)


def rows_at(at: int) -> pa.Table:
    return pa.table({"k": list(range(8)), "event_timestamp": pa.array([at] * 8).cast(US)})


def both(tmp_path: Path, here: Client, view: FeatureView = VIEW, **kwargs: Any) -> pa.Table:
    """The answer on the cluster, which is the answer in process."""
    plan, rows = plan_of(view, "event"), rows_at(1_000)
    found = retrieve(plan, rows, base=str(tmp_path), route=OnDask(here, tmp_path / "work", **kwargs))
    assert found.equals(retrieve(plan, rows, base=str(tmp_path), route=InProcess()))
    return found


def test_an_appended_file_is_all_that_is_laid_out(tmp_path, here, laid):
    write_file(tmp_path / "events", "1.parquet", first=0)
    write_file(tmp_path / "events", "2.parquet", first=50)
    both(tmp_path, here)
    assert sorted(laid) == ["1.parquet", "2.parquet"]

    both(tmp_path, here)
    both(tmp_path, here, buckets=5)
    assert len(laid) == 2

    write_file(tmp_path / "events", "3.parquet", first=100)
    both(tmp_path, here)
    assert laid[2:] == ["3.parquet"]


def test_a_changed_file_is_all_that_is_laid_out_again(tmp_path, here, laid):
    write_file(tmp_path / "events", "1.parquet", first=0)
    write_file(tmp_path / "events", "2.parquet", first=50)
    before = both(tmp_path, here)

    write_file(tmp_path / "events", "1.parquet", first=400)
    after = both(tmp_path, here)

    assert laid[2:] == ["1.parquet"]
    assert not after.equals(before)


def test_other_columns_are_another_layout_and_views_of_one_source_share_theirs(tmp_path, here, laid):
    write_file(tmp_path / "events", "1.parquet", first=0)
    other = FeatureView("w", entity=Entity("k"), source=VIEW.source, features=["y"])
    both(tmp_path, here)
    both(tmp_path, here, other)
    assert len(laid) == 2

    first, second = plan_of(VIEW, "event"), plan_of(other, "event")
    plan = type(first)(reads=first.reads + second.reads, on_demand=(), columns=first.columns + second.columns)
    found = retrieve(plan, rows_at(1_000), base=str(tmp_path), route=OnDask(here, tmp_path / "work"))

    assert found.equals(retrieve(plan, rows_at(1_000), base=str(tmp_path)))
    assert len(laid) == 3


@pytest.mark.parametrize("harm", ["truncate", "zero", "lose"])
def test_a_damaged_layout_is_written_again(tmp_path, here, laid, harm):
    write_file(tmp_path / "events", "1.parquet", first=0)
    before = both(tmp_path, here)
    [file] = (tmp_path / "work-layouts").glob("*/rows.arrow")
    if harm == "lose":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-100] if harm == "truncate" else bytes(file.stat().st_size))

    assert both(tmp_path, here).equals(before)
    assert laid == ["1.parquet"] * 2


def test_a_cache_that_may_hold_nothing_still_answers_and_is_empty_afterwards(tmp_path, here, laid):
    write_file(tmp_path / "events", "1.parquet", first=0)
    cache = Cache(tmp_path / "kept", limit=0)

    for _ in range(2):
        both(tmp_path, here, cache=cache)

        assert cache.entries() == ()
    assert len(laid) == 2


def test_parts_that_hold_no_event_that_matters_are_not_laid_out(tmp_path, here, laid):
    write_file(tmp_path / "events", "1.parquet", first=0)
    write_file(tmp_path / "events", "2.parquet", first=5_000)

    both(tmp_path, here)

    assert laid == ["1.parquet"]


def test_codes_cut_all_keys_into_ranges_whatever_type_they_come_in():
    small, large = pa.array(range(1_000), pa.int32()), pa.array(range(1_000), pa.int64())
    codes = hash_codes(pa.table({"k": small}))

    assert (codes == hash_codes(pa.table({"other": large}))).all()
    counts = np.histogram(codes, bins=np.array(code_edges(4), np.float64))[0]
    assert counts.sum() == 1_000
    assert counts.min() > 150


@pytest.mark.parametrize("clock", ["event", "known", "served"])
def test_corrections_meet_across_files_and_keys_also_those_that_come_later(tmp_path, here, clock):
    random, seen = Random(SEED), 0
    while seen < 2:
        history = random_history(random, events=120, rows=40)
        if not (history.view.source.deleted and history.view.keys and history.events.num_rows > 60):
            continue
        folder = tmp_path / f"world{seen}"
        folder.mkdir()
        history, seen = at_path(history, "events"), seen + 1
        plan = plan_of(history.view, clock)
        for cuts in ([(0, 15), (15, 40)], [(0, 15), (15, 40), (40, None)]):
            write_in_parts(history, folder / "events", cuts)
            for buckets in (1, 3):
                route = OnDask(here, folder / "work", buckets=buckets)
                found = retrieve(plan, history.rows, base=str(folder), route=route)
                assert found.equals(retrieve(plan, history.rows, base=str(folder)))
        assert differing(history, clock, found.select(history.view.feature_names)) == []


@pytest.mark.parametrize("n_files", [1, 2])
@pytest.mark.parametrize("buckets", [1, 3])
def test_a_view_without_an_entity_is_laid_out_too(tmp_path, here, n_files, buckets):
    for number in range(n_files):
        write_file(tmp_path / "events", f"{number}.parquet", first=50 * number)
    features = ["x", Agg("x", "sum", over="1h", name="s")]
    view = FeatureView("v", entity=None, source=VIEW.source, features=features)

    found = both(tmp_path, here, view, buckets=buckets)

    last = 50 * n_files - 1
    assert found["x"].to_pylist() == [10 * last] * 8
    assert found["s"].to_pylist() == [sum(range(0, 10 * last + 1, 10))] * 8
    route = OnDask(here, tmp_path / "work", buckets=buckets)
    done = written(view, 20, base=str(tmp_path), route=route)
    assert done.table["x"].to_pylist() == [200]
    assert done == written(view, 20, base=str(tmp_path))


KINDS: dict[str, tuple[tuple[pa.DataType, pa.DataType], pa.DataType]] = {
    "integers": ((pa.int32(), pa.int64()), pa.int16()),
    "strings": ((pa.string(), pa.large_string()), pa.dictionary(pa.int8(), pa.string())),
    "dictionaries": ((pa.dictionary(pa.int8(), pa.string()), pa.string()), pa.large_string()),
    "bytes": ((pa.binary(), pa.large_binary()), pa.binary(2)),
    "UUIDs": ((pa.uuid(), pa.uuid()), pa.uuid()),
}


@pytest.mark.parametrize("same_hash", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_keys_meet_whatever_each_file_stores_them_as_and_though_all_have_one_hash(
    tmp_path, here, monkeypatch, kind, same_hash
):
    if same_hash:
        monkeypatch.setattr(keys, "stable_hash", lambda table, columns: np.full(table.num_rows, 7, np.uint64))
        monkeypatch.setattr(run, "integers_of", lambda keys: None)
    files, asked = KINDS[kind]
    random = np.random.default_rng(SEED)

    def column(numbers: Any, as_type: pa.DataType) -> pa.Array:
        if as_type == pa.uuid():
            return pa.array([bytes(15) + bytes([n]) for n in numbers], pa.uuid())
        inside = as_type.value_type if pa.types.is_dictionary(as_type) else as_type
        texts = numbers if pa.types.is_integer(inside) else [f"k{n}" for n in numbers]
        texts = [text.encode() for text in texts] if kind == "bytes" else texts
        return pa.array(texts, inside).cast(as_type)

    (tmp_path / "events").mkdir()
    for number, stored in enumerate(files):
        n = random.integers(0, 9, 60)
        table = {"k": column(n, stored), "t": pa.array(np.arange(60) // 2).cast(US), "x": np.arange(60)}
        pq.write_table(
            pa.table(table).select(["k", "t", "x"][:: 1 - 2 * number]), tmp_path / f"events/{number}.parquet"
        )
    pq.write_table(pa.table(table).slice(0, 0), tmp_path / "events/2.parquet")
    n, at = random.integers(0, 10, 40), random.integers(0, 31, 40)
    rows = pa.table({"k": column(n, asked), "event_timestamp": pa.array(at).cast(US)})
    plan, expected = plan_of(VIEW, "event"), retrieve(plan_of(VIEW, "event"), rows, base=str(tmp_path))

    assert 0 < expected["x"].null_count < 40
    for buckets in (1, 3):
        cluster = Cluster(here, tmp_path / "work", Cache(tmp_path / f"kept{buckets}"), buckets, SMALL)
        [found] = features_here(cluster, plan, rows, base=str(tmp_path), progress=SilentProgress())
        assert found.equals(expected.select(found.column_names))


def test_one_column_of_the_entity_rows_may_be_several_keys(tmp_path, here):
    (tmp_path / "events").mkdir()
    table = {"k": [1, 1, 2], "n": [1, 2, 2], "t": pa.array([1, 1, 1]).cast(US), "x": [11, 12, 22]}
    pq.write_table(pa.table(table), tmp_path / "events" / "1.parquet")
    view = FeatureView("v", entity=Entity("e", keys=["k", "n"]), source=VIEW.source, features=["x"])
    read = ViewRead(view, ("x",), "event", (("k", "at"), ("n", "at")))
    plan = RetrievalPlan(reads=(read,), on_demand=(), columns=("x",))
    rows = pa.table({"at": [2, 1, 3, None], "event_timestamp": pa.array([9] * 4).cast(US)})

    for route in (InProcess(), OnDask(here, tmp_path / "work", buckets=3)):
        assert retrieve(plan, rows, base=str(tmp_path), route=route)["x"].to_pylist() == [22, 11, None, None]


def test_a_bucket_worked_through_in_pieces_answers_the_same(tmp_path, here):
    write_file(tmp_path / "events", "1.parquet", first=0, n=500)
    plan, rows = plan_of(VIEW, "event"), pa.concat_tables([rows_at(at) for at in range(0, 600, 3)])
    cluster = Cluster(here, tmp_path / "work", Cache(tmp_path / "kept"), 2, SMALL)

    [found] = features_here(cluster, plan, rows, base=str(tmp_path), progress=SilentProgress())

    assert found.equals(retrieve(plan, rows, base=str(tmp_path)).select(list(plan.columns)))


def test_a_file_that_changes_while_it_is_read_is_never_kept(tmp_path, here, monkeypatch):
    from mlflow_core.errors import SourceError
    from mlflow_core.sources import parquet

    write_file(tmp_path / "events", "1.parquet", first=0)
    opened = parquet.open_parquet

    def overwritten(file: Any) -> Any:
        handle = opened(file)
        path = tmp_path / "events" / "1.parquet"
        os.utime(path, (1, 1))
        return handle

    plan = plan_of(VIEW, "event")
    with monkeypatch.context() as patched:
        patched.setattr(parquet, "open_parquet", overwritten)
        with pytest.raises(SourceError, match=r"1\.parquet.*chang"):
            retrieve(plan, rows_at(9), base=str(tmp_path), route=OnDask(here, tmp_path / "work"))

    assert Cache(tmp_path / "work-layouts").entries() == ()
