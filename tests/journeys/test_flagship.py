"""The flagship: the real flights, and that what trains is what serves."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mlflow_core.cli.boundary import run
from mlflow_core.cli.context import Invocation
from mlflow_core.config import FixedClock
from mlflow_core.config.times import format_time, parse_time
from mlflow_core.engine.retrieve import retrieve
from mlflow_core.plan.retrieval import plan_retrieval
from mlflow_core.serve.features import Features
from mlflow_core.spec import Every
from tests.flagship import copied, prepare

HOUR = 3_600_000_000
BOUNDARIES = (
    "2013-01-02T11:00Z", "2013-01-03T18:00Z", "2013-01-04T19:00Z", "2013-01-07T21:00Z", "2013-01-08T22:00Z",
    "2013-01-09T17:00Z", "2013-01-11T09:00Z", "2013-01-14T18:00Z", "2013-01-16T20:00Z", "2013-01-18T17:00Z",
)  # fmt: skip
FLIGHTS = 500


@pytest.fixture(scope="module")
def prepared(repository, tmp_path_factory):
    """The folder of the prepared files, made by the flagship's own module."""
    folder = tmp_path_factory.mktemp("flights")
    assert prepare(repository, folder)
    assert not prepare(repository, folder), "a second time there is nothing to do"
    return folder


@pytest.fixture(scope="module")
def january(repository, prepared, tmp_path_factory):
    """The flagship's project on its own copy of three weeks of flights."""
    return copied(repository, prepared, tmp_path_factory.mktemp("flagship"), ("2013-01-01", "2013-01-21"))


def test_the_prepared_flights_are_all_there_and_their_times_fit_together(prepared):
    flights = pq.read_table(prepared / "flights.parquet")

    assert flights.num_rows == 336_776
    assert pc.count_distinct(flights["flight_id"]).as_py() == 336_776
    assert all(
        field.type == pa.timestamp("us", "UTC") for field in flights.schema if "timestamp" in str(field.type)
    )
    micro = {
        name: flights[name].cast(pa.int64())
        for name in ("scheduled_departure", "scheduled_arrival", "arrival")
    }
    assert pc.all(pc.greater(micro["scheduled_arrival"], micro["scheduled_departure"])).as_py()
    minutes = pc.divide(pc.subtract(micro["arrival"], micro["scheduled_arrival"]).cast(pa.float64()), 60e6)
    assert pc.all(pc.equal(minutes, flights["arr_delay"])).as_py()
    # Between departure and arrival there is the flight itself and some minutes of taxiing, in every time zone.
    left = flights["departure"].cast(pa.int64())
    elapsed = pc.divide(pc.subtract(micro["arrival"], left).cast(pa.float64()), 60e6)
    taxi = pc.drop_null(pc.subtract(elapsed, flights["air_time"]))
    assert pc.min(taxi).as_py() > 0
    assert pc.max(taxi).as_py() < 4 * 60


def test_an_outcome_is_known_when_it_happened_and_never_before_the_flight(prepared):
    flights = pq.read_table(prepared / "flights.parquet").to_pandas()

    arrived = flights[flights["arrival"].notna()]
    cancelled = flights[flights["cancelled"]]
    diverted = flights[flights["diverted"]]
    assert len(arrived) + len(cancelled) + len(diverted) == len(flights)
    assert (arrived["outcome_known"] == arrived["arrival"]).all()
    assert (cancelled["outcome_known"] == cancelled["scheduled_arrival"]).all()
    assert (diverted["outcome_known"] > diverted["scheduled_arrival"]).all()
    assert (flights["outcome_known"] >= flights["scheduled_departure"]).all()
    assert (flights["departure_known"] <= flights["outcome_known"]).all()


def test_500_flights_have_the_same_features_offline_as_served_and_online(january, capsys):
    assert run(["--root", str(january), "apply"]) == 0
    call = Invocation(given_root=january)
    service = call.project.services["delay_model"]
    assert all(isinstance(one.view.availability, Every) for one in service.selections)
    flights = _flights_by_boundary(january)
    plan = plan_retrieval(service)
    compared, missing = 0, 0
    for boundary, rows in flights.items():
        closed = format_time(parse_time(boundary) + 10 * 60_000_000)
        assert run(["--root", str(january), "materialize", "--to", boundary, "--clock", closed]) == 0
        offline = retrieve(plan, rows, base=str(january / "feature_repo")).to_pylist()
        features = Features.open(january / "feature_repo", FixedClock(0))
        served = features.service("delay_model")
        times = rows["event_timestamp"].cast(pa.int64()).to_pylist()
        for wanted, now in zip(offline, times, strict=True):
            answer = features.answer(served, {name: [wanted[name]] for name in served.columns}, now_us=now)
            for name, values in answer.columns.items():
                assert _same(values[0], wanted[name]), (
                    f"{boundary} {wanted}: {name} {values[0]} != {wanted[name]}"
                )
                compared += 1
            missing += any(statuses[0].value == "NOT_FOUND" for statuses in answer.statuses.values())
        features.close()
    capsys.readouterr()
    print(f"compared {compared:,} values of {FLIGHTS} flights; {missing} flights had an entity without a row")
    assert sum(rows.num_rows for rows in flights.values()) == FLIGHTS
    assert len(flights) <= 10
    assert missing > 0, "some entities have no row in the store, or the test shows less than it says"
    assert compared >= FLIGHTS * 40


@pytest.mark.long
def test_the_flagship_beats_the_rate_and_logistic_regression_on_the_last_two_months(
    repository, prepared, tmp_path
):
    from mlflow_core.workflow.project import open_workspace
    from mlflow_core.workflow.training import run_pipeline

    copied(repository, prepared, tmp_path)
    workspace = open_workspace(tmp_path)

    trained = run_pipeline(workspace, "late_arrival")

    assert trained.dataset.manifest["clock"] == "served"
    assert trained.dataset.manifest["parts"]["test"]["from"].startswith("2013-11-01")
    for baseline in ("rate", "logistic_regression"):
        for unit in ("row", "day"):
            gain = trained.evaluation.difference("auc", "late_arrival", baseline, unit=unit)
            assert gain.low > 0, f"auc against {baseline}, resampling {unit}s: {gain}"
    workspace.metadata.close()


def _flights_by_boundary(root: Path) -> dict[str, pa.Table]:
    """Take 50 flights for each boundary whose query time reads that boundary; query times as the dataset has them."""
    flights = pq.read_table(root / "feature_repo" / "data" / "flights.parquet")
    query = pc.subtract(flights["scheduled_departure"].cast(pa.int64()), 2 * HOUR)
    flights = flights.append_column("event_timestamp", query.cast(pa.timestamp("us", "UTC")))
    chosen = {}
    for boundary in BOUNDARIES:
        start = parse_time(boundary) + HOUR // 6
        inside = pc.and_(pc.greater_equal(query, start), pc.less(query, start + HOUR))
        rows = flights.filter(inside).slice(0, FLIGHTS // len(BOUNDARIES))
        chosen[boundary] = rows
    return chosen


def _same(online: object, offline: object) -> bool:
    missing = [
        value is None or (isinstance(value, float) and math.isnan(value)) for value in (online, offline)
    ]
    if any(missing):
        return all(missing)
    if isinstance(online, float) and isinstance(offline, float):
        return math.isclose(online, offline, rel_tol=1e-9, abs_tol=1e-9)
    return online == offline
