"""Entity rows, labels and parts of a whole dataset against the loops of the oracle."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mlflow_core as ml
from mlflow_core.engine.dataset.spine import entity_rows
from mlflow_core.engine.dataset.split import REASONS
from mlflow_core.errors import SourceError
from mlflow_core.plan.dataset import PARTS, plan_dataset
from mlflow_core.sources import read_schema
from tests.oracle import labels as oracle

HOUR = 3_600_000_000
TRAIN_UNTIL, VALIDATE_UNTIL = "1970-01-01T10:00", "1970-01-01T16:00"

EVENTS = st.lists(
    st.builds(
        oracle.Event,
        key=st.sampled_from("ab"),
        time=st.integers(0, 24).map(lambda hour: hour * HOUR),
        value=st.one_of(st.none(), st.integers(-3, 3).map(float)),
        known_at=st.integers(0, 30).map(lambda hour: hour * HOUR),
        event_id=st.one_of(st.none(), st.integers(0, 8)),
        created=st.integers(0, 30).map(lambda hour: hour * HOUR),
    ),
    min_size=1,
    max_size=30,
)


def written(folder, events):
    table = pa.table(
        {
            "key": pa.array([e.key for e in events], pa.string()),
            "time": pa.array([e.time for e in events], pa.timestamp("us", "UTC")),
            "value": pa.array([e.value for e in events], pa.float64()),
            "known_at": pa.array([e.known_at for e in events], pa.timestamp("us", "UTC")),
            "id": pa.array([e.event_id for e in events], pa.int64()),
            "created": pa.array([e.created for e in events], pa.timestamp("us", "UTC")),
        }
    )
    pq.write_table(table, folder / "events.parquet")


def events_source():
    return ml.ParquetSource(
        "events",
        path="events.parquet",
        event_time="time",
        known_at="known_at",
        event_id="id",
        created="created",
    )


def dataset(label, *, where=None, test_until=None):
    source, entity = events_source(), ml.Entity("key")
    view = ml.FeatureView("view", entity=entity, source=source, features=[ml.Agg("*", "count", over="1h")])
    return ml.Dataset(
        features=ml.FeatureService("service", [view]),
        spine=ml.Spine(source, at="time - interval '1 hour'", where=where),
        label=label(source, entity),
        split=ml.TimeSplit(
            train_until=TRAIN_UNTIL, validate_until=VALIDATE_UNTIL, test_until=test_until, embargo="1h"
        ),
    )


def rows_of(spec, folder):
    plan = plan_dataset(spec, lambda source: read_schema(source, str(folder)))
    return entity_rows(plan, str(folder))


def expected_place(t, label, known, *, settled=True):
    return oracle.place(
        t, label, known, train_until=10 * HOUR, validate_until=16 * HOUR, test_until=None, embargo=HOUR,
        settled=settled,
    )  # fmt: skip


def check(found, expected, label_column):
    """Compare the rows of each part, in order, and the counted reasons."""
    rows = found.table.to_pylist()
    start = 0
    for part in PARTS:
        wanted = [(key, t, value) for key, t, value, place in expected if place == part]
        mine = rows[start : start + found.rows[part]]
        start += found.rows[part]
        times = found.table["event_timestamp"].cast(pa.int64()).to_pylist()[start - len(mine) : start]
        assert [(r["key"], t, r[label_column]) for r, t in zip(mine, times, strict=True)] == wanted
    for reason in REASONS:
        assert found.left_out[reason] == sum(place == reason for *_, place in expected)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(events=EVENTS)
def test_a_label_of_the_own_event_is_known_and_placed_as_the_oracle_says(tmp_path, events):
    written(tmp_path, events)
    spec = dataset(lambda source, entity: ml.Label("value > 0", known_at="known_at", name="y"))

    found = rows_of(spec, tmp_path)

    expected = []
    for event in oracle.last_versions(events):
        t, label = event.time - HOUR, None if event.value is None else event.value > 0
        expected.append((event.key, t, label, expected_place(t, label, event.known)))
    check(found, expected, "y")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(
    events=EVENTS,
    function=st.sampled_from(["count", "sum", "max"]),
    hours=st.integers(1, 6),
    where=st.sampled_from([None, "value > 0"]),
)
def test_a_label_of_the_time_after_the_query_is_known_and_placed_as_the_oracle_says(
    tmp_path, events, function, hours, where
):
    written(tmp_path, events)
    column = "*" if function == "count" else "value"
    spec = dataset(
        lambda source, entity: ml.Label(
            aggregate=ml.Agg(column, function, over=f"{hours}h", where=where), entity=entity, name="y"
        )
    )

    found = rows_of(spec, tmp_path)

    def counts(event):
        return where is None or (event.value is not None and event.value > 0)

    end = max(event.known for event in oracle.last_versions(events))
    expected = []
    for event in oracle.last_versions(events):
        t = event.time - HOUR
        label, known = oracle.aggregate_label(events, event.key, t, hours * HOUR, function, counts)
        settled = t + hours * HOUR <= end
        expected.append((event.key, t, label, expected_place(t, label, known, settled=settled)))
    check(found, expected, "y")


def test_the_horizon_leaves_out_the_query_time_and_holds_its_own_end(tmp_path):
    events = [oracle.Event("a", hour * HOUR, 1.0) for hour in (1, 2, 5)] + [oracle.Event("b", 9 * HOUR, 1.0)]
    written(tmp_path, events)
    spec = dataset(lambda s, e: ml.Label(aggregate=ml.Agg("*", "count", over="3h"), entity=e, name="y"))

    found = rows_of(spec, tmp_path)

    # t is an hour before each event: (0, 3] holds 1 and 2, (1, 4] holds 2, (4, 7] holds 5.
    assert found.table.filter(pa.compute.equal(found.table["key"], "a"))["y"].to_pylist() == [2, 1, 1]


def test_that_nothing_happened_is_known_when_the_last_event_that_might_have_counted_is(tmp_path):
    quiet = [oracle.Event("a", HOUR, 1.0), oracle.Event("a", 2 * HOUR, -1.0, known_at=12 * HOUR)]
    written(tmp_path, [*quiet, oracle.Event("b", 9 * HOUR, 1.0)])
    spec = dataset(
        lambda s, e: ml.Label(
            aggregate=ml.Agg("*", "count", over="3h", where="value > 0"), entity=e, name="y"
        ),
        where="key = 'a'",
    )

    found = rows_of(spec, tmp_path)

    # At 0 and at 1 o'clock: whether the event of 2 o'clock counts is known at 12, after the cut of 10 o'clock.
    assert found.rows["train"] == 0
    assert found.left_out["label_unknown_at_cut"] == 2


def test_a_spine_whose_condition_no_event_meets_names_its_source(tmp_path):
    written(tmp_path, [oracle.Event("a", HOUR, 1.0)])
    spec = dataset(lambda source, entity: ml.Label("value > 0", name="y"), where="value > 100")

    with pytest.raises(SourceError, match=r'"events".*no event that makes a row'):
        rows_of(spec, tmp_path)
