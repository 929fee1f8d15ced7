"""What a retrieval reads: told from metadata, read once for all views, and no value depends on what is left out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlflow_core as ml
from mlflow_core.algebra.types import TIME
from mlflow_core.engine.buckets.laid import layouts_there
from mlflow_core.engine.estimate import RowsEstimate, estimate, rows_of
from mlflow_core.engine.explain import Explanation
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.engine.retrieve import retrieve
from mlflow_core.engine.route import InProcess, OnDask
from mlflow_core.errors import SourceError
from mlflow_core.plan.retrieval import plan_retrieval
from mlflow_core.testing.histories import History
from mlflow_core.testing.strategies import histories
from tests.engine.comparison import differing
from tests.engine.worlds import at_path, plan_of, write_in_parts

HOUR = 3_600_000_000
ROWS_A_GROUP = 10


class Counted:
    """Progress that keeps the stages' names and how much each did."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Counted]:
        self.name = name
        assert name not in self.done, f"{name} twice"
        self.done[name] = 0
        yield self

    def advance(self, n: int) -> None:
        self.done[self.name] += n


def hourly(folder: Path, files: int = 3, hours: int = 40) -> ml.ParquetSource:
    """One event an hour for two customers, in files of some row groups each, all in order of time."""
    (folder / "orders").mkdir(parents=True)
    for file in range(files):
        times = [(file * hours + hour) * HOUR for hour in range(hours)]
        table = pa.table(
            {
                "customer": [hour % 2 for hour in range(hours)],
                "placed": pa.array(times, pa.int64()).cast(TIME),
                "amount": [float(hour) for hour in range(hours)],
                "note": ["n"] * hours,
            }
        )
        pq.write_table(table, folder / "orders" / f"{file}.parquet", row_group_size=ROWS_A_GROUP)
    return ml.ParquetSource("orders", path="orders", event_time="placed")


def service_of(source: ml.ParquetSource, **last: object) -> ml.FeatureService:
    customer = ml.Entity("customer")
    sums = ml.FeatureView(
        "sums", entity=customer, source=source, features=[ml.Agg("amount", ["sum", "max"], over=["2h", "3h"])]
    )
    latest = ml.FeatureView("last", entity=customer, source=source, features=["note"], **last)
    return ml.FeatureService("both", [sums, latest])


def ask(*hours: int) -> pa.Table:
    times = pa.array([hour * HOUR for hour in hours], pa.int64()).cast(TIME)
    return pa.table({"customer": [hour % 2 for hour in hours], "event_timestamp": times})


def test_files_and_row_groups_outside_the_rows_span_with_its_halo_are_not_read(tmp_path):
    plan = plan_retrieval(service_of(hourly(tmp_path), ttl="4h"))
    found = estimate(plan, rows_of(ask(55, 56), "event_timestamp"), base=str(tmp_path), cluster=False)

    sums, last = found.views
    assert (sums.between, last.between) == ((52 * HOUR + 1, 56 * HOUR), (51 * HOUR, 56 * HOUR))
    assert (sums.left.files, sums.left.rows, sums.total.files, sums.total.rows) == (1, 10, 3, 120)
    assert sums.left.bytes == 10 * (8 + 8 + 8)
    (source,) = found.sources
    assert source.views == ("sums", "last")
    assert source.columns == ("customer", "placed", "amount", "note")
    assert source.between == (51 * HOUR, 56 * HOUR)

    told = Counted()
    answers = retrieve(plan, ask(55, 56), base=str(tmp_path), progress=told)
    assert told.done == {"reading orders": source.left.rows, "computing sums": 2, "computing last": 2}
    assert answers["amount_sum_2h"].to_pylist() == [15.0, 16.0]
    assert answers["amount_max_3h"].to_pylist() == [15.0, 16.0]


def test_a_latest_value_without_ttl_needs_all_that_came_before(tmp_path):
    plan = plan_retrieval(service_of(hourly(tmp_path)))
    found = estimate(plan, rows_of(ask(45), "event_timestamp"), base=str(tmp_path), cluster=False)

    assert found.views[1].between == (None, 45 * HOUR)
    assert found.views[1].left.rows == 50


def test_without_entity_rows_nothing_is_read_and_the_columns_are_there(tmp_path):
    plan = plan_retrieval(service_of(hourly(tmp_path)))
    nobody = ask(1).slice(0, 0)
    told = Counted()

    assert (
        estimate(plan, rows_of(nobody, "event_timestamp"), base=str(tmp_path), cluster=True).read_bytes == 0
    )
    answers = retrieve(plan, nobody, base=str(tmp_path), progress=told)
    assert (answers.num_rows, answers.schema.field("note").type) == (0, pa.string())
    assert told.done["reading orders"] == 0


def test_the_explanation_says_what_is_read_where_it_is_computed_and_why(tmp_path):
    plan = plan_retrieval(service_of(hourly(tmp_path), ttl="4h"))
    rows = rows_of(ask(55, 56), "event_timestamp")
    told = Explanation(plan, estimate(plan, rows, base=str(tmp_path), cluster=True))

    assert str(told).splitlines() == [
        "sums  clock=event  on customer  4 features of orders",
        "  columns   customer, placed, amount",
        "  events    from 1970-01-03T04:00:00.000001Z until 1970-01-03T08:00:00Z",
        "  reads     1 of 3 files, 10 of 120 events, 240 B of 2.9 kB",
        "  2h        sum of amount, max of amount",
        "  3h        sum of amount, max of amount",
        "last  clock=event  on customer  1 features of orders",
        "  columns   customer, placed, note",
        "  events    from 1970-01-03T03:00:00Z until 1970-01-03T08:00:00Z",
        "  reads     1 of 3 files, 10 of 120 events, 400 B of 4.8 kB",
        "  latest    note, for 4h",
        "source   orders is read once for sums, last: 1 of 3 files, 10 of 120 events, 480 B of 5.8 kB",
        "given    2 rows, 1970-01-03T07:00:00Z to 1970-01-03T08:00:00Z, 32 B",
        "output   5 columns, about 112 B",
        "route    in process: 480 B to read, 32 B of entity rows and 112 B to give back are not more than 2.0 GB",
    ]
    data = told.to_json()
    assert data["views"][0]["windows"] == {
        "2h": ["sum of amount", "max of amount"],
        "3h": ["sum of amount", "max of amount"],
    }
    assert data["sources"][0]["reads"] == {"files": 1, "rows": 10, "bytes": 480}
    assert data["route"]["place"] == "in process"


@pytest.mark.parametrize(
    ("cluster", "limit", "place", "why"),
    [
        (True, 10**9, "in process", "not more than 1.0 GB"),
        (True, 1000, "on Dask", "more than 1.0 kB"),
        (False, 1000, "in process", "more than 1.0 kB, but there is no cluster"),
    ],
)
def test_the_route_is_chosen_by_what_is_left_to_read_and_says_why(tmp_path, cluster, limit, place, why):
    plan = plan_retrieval(service_of(hourly(tmp_path)))
    rows = RowsEstimate(5, 80, None, exact=False)
    found = estimate(plan, rows, base=str(tmp_path), cluster=cluster, worth_a_cluster=limit)

    assert found.place == place
    assert found.why.endswith(why)
    assert found.views[0].between == (None, None), "times that are not known yet prune nothing"


def test_how_many_layouts_a_cluster_finds_is_said_before_and_after_it_wrote_them(tmp_path, client):
    plan = plan_retrieval(service_of(hourly(tmp_path), ttl="4h"))
    asked = ask(30, 45)
    rows, cache = rows_of(asked, "event_timestamp"), Cache(tmp_path / "cache")
    assert layouts_there(plan, rows, base=str(tmp_path), cache=cache) == (0, 2)

    retrieve(plan, asked, base=str(tmp_path), route=OnDask(client, tmp_path / "work", cache=cache))
    there = layouts_there(plan, rows, base=str(tmp_path), cache=cache)
    assert there == (2, 2), "two of three files hold events that matter"
    found = estimate(plan, rows, base=str(tmp_path), cluster=True, worth_a_cluster=1)
    assert str(Explanation(plan, found, layouts=there)).endswith("cached   2 of 2 parts are laid out already")
    every = rows_of(ask(30, 100), "event_timestamp")
    assert layouts_there(plan, every, base=str(tmp_path), cache=cache) == (2, 3)


def test_a_source_that_is_not_there_is_named_by_the_estimate_too(tmp_path):
    source = ml.ParquetSource("orders", path="nowhere.parquet", event_time="placed")
    with pytest.raises(SourceError, match=r'"orders".*nowhere\.parquet'):
        estimate(
            plan_retrieval(service_of(source)),
            rows_of(ask(1), "event_timestamp"),
            base=str(tmp_path),
            cluster=False,
        )


@settings(max_examples=40, deadline=None)
@given(history=histories(), clock=st.sampled_from(("event", "known", "served")), files=st.integers(1, 5))
def test_values_from_files_in_order_of_time_are_the_truth_whatever_is_left_out(history, clock, files):
    """Sorted files have narrow statistics, so that most worlds have something that is left out."""
    if not history.events.num_rows:
        return
    order = history.events.sort_by("t")
    with tempfile.TemporaryDirectory() as folder:
        world = at_path(History(history.view, order, history.rows), "events")
        edges = [order.num_rows * number // files for number in range(files + 1)]
        write_in_parts(world, Path(folder) / "events", list(pairwise(edges)))
        plan = plan_of(world.view, clock)
        found = retrieve(plan, world.rows, base=folder, route=InProcess())
    answers = found.select(list(world.view.feature_names))
    assert differing(world, clock, answers) == []
