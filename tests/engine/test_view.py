"""The compute core on worlds small enough to check by eye: edges, clocks, keys, types, odd times."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.engine.views.view import compute_view, needed_columns
from mlflow_core.errors import PlanError, SourceError
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.spec import Agg, Every
from tests.engine.by_eye import US, asked, source_of, times, view_of


@pytest.mark.parametrize(
    ("edges", "seen"),
    [
        ({}, [0, 1, 1, 0]),  # T = 99, 100, 109, 110 for one event at 100 and a window of 10
        ({"boundary": "[)"}, [0, 0, 1, 1]),
        ({"offset": "1us"}, [0, 0, 1, 1]),
        ({"accuracy": "hop(8us)"}, [0, 1, 1, 1]),
    ],
)
def test_each_window_edge_falls_on_its_microsecond(edges, seen):
    view = view_of(Agg("*", "count", over="10us", name="n", **edges))

    out = asked(
        view, {"k": [1], "t": times(100)}, {"k": [1] * 4, "event_timestamp": times(99, 100, 109, 110)}
    )

    assert out["n"] == seen


def test_an_entity_row_sees_an_event_of_its_own_microsecond_and_ttl_includes_its_edge():
    view = view_of("x", ttl="10us")

    out = asked(
        view,
        {"k": [1], "t": times(100), "x": [5]},
        {"k": [1] * 4, "event_timestamp": times(99, 100, 110, 111)},
    )

    assert out["x"] == [None, 5, 5, None]


def test_the_known_clock_hides_late_events_that_the_event_clock_leaks():
    view = view_of("x", Agg("x", "sum", over="1h", name="s"), source=source_of(known_at="known"))
    events = {"k": [1, 1], "t": times(10, 20), "known": times(None, 50), "x": [1, 2]}
    rows = {"k": [1] * 3, "event_timestamp": times(15, 30, 50)}

    assert asked(view, events, rows, "event") == {"x": [1, 2, 2], "s": [1, 3, 3]}
    assert asked(view, events, rows, "known") == {"x": [1, 1, 2], "s": [1, 1, 3]}


def test_the_served_clock_gives_what_the_last_usable_boundary_held_with_the_ttl_of_the_row_itself():
    view = view_of(
        "x",
        Agg("*", "count", over="100us", name="n"),
        source=source_of(known_at="known"),
        availability=Every("100us", delay="30us"),
        ttl="60us",
    )
    events = {"k": [1, 1, 1], "t": times(90, 95, 101), "known": times(90, 131, 101), "x": [1, 2, 3]}
    rows = {"k": [1] * 4, "event_timestamp": times(129, 130, 151, 240)}

    # b(129) = 0, b(130) = b(151) = 100, b(240) = 200: the event at 95 is known one microsecond too late for 100.
    assert asked(view, events, rows, "served") == {"x": [None, 1, None, None], "n": [0, 1, 1, 1]}


def test_under_the_served_clock_a_view_without_availability_is_refused():
    with pytest.raises(PlanError, match='FeatureView "v": has no availability'):
        asked(
            view_of("x"),
            {"k": [1], "t": times(1), "x": [1]},
            {"k": [1], "event_timestamp": times(1)},
            "served",
        )


def test_a_correction_replaces_a_move_leaves_nothing_behind_and_a_delete_deletes():
    source = source_of(event_id="id", known_at="known", deleted="gone")
    view = view_of("x", Agg("x", "sum", over="1h", name="s"), source=source)
    events = {
        "id": [7, 7, 7, 8],
        "k": ["a", "b", "b", "a"],
        "t": times(10, 12, 12, 11),
        "known": times(10, 20, 30, 11),
        "gone": [False, False, True, None],
        "x": [1, 2, 2, 100],
    }
    rows = {"k": ["a", "b", "a", "b", "a", "b"], "event_timestamp": times(15, 15, 25, 25, 35, 35)}

    out = asked(view, events, rows, "known")

    assert out == {"x": [100, None, 100, 2, 100, None], "s": [101, None, 100, 2, 100, None]}


def test_ties_go_to_the_greatest_created_then_to_the_later_row_of_the_source():
    events = {"k": [1, 1, 1], "t": times(5, 5, 5), "made": times(2, 3, 3), "x": ["a", "b", "c"]}
    rows = {"k": [1], "event_timestamp": times(9)}

    assert asked(view_of("x", source=source_of(created="made")), events, rows) == {"x": ["c"]}
    assert asked(view_of("x"), {**events, "x": ["c", "b", "a"]}, rows) == {"x": ["a"]}


def test_a_stored_null_is_the_latest_value_and_nan_is_a_null():
    events = {"k": [1, 1, 2, 2], "t": times(1, 2, 1, 2), "x": [5.0, None, 5.0, float("nan")]}

    out = asked(
        view_of("x", Agg("x", ["count", "last"], over="1h")),
        events,
        {"k": [1, 2], "event_timestamp": times(3, 3)},
    )

    assert out == {"x": [None, None], "x_count_1h": [1, 1], "x_last_1h": [5.0, 5.0]}


@pytest.mark.parametrize(
    "moments",
    [
        pa.array([1_999, 2_000], pa.timestamp("ns")),
        pa.array([1, 2], pa.timestamp("us", "America/New_York")),
        pa.array([1, 2], pa.timestamp("us")),
    ],
)
def test_times_of_any_unit_and_zone_are_floored_to_microseconds_in_utc(moments):
    out = asked(view_of("x"), {"k": [1], "t": times(2), "x": [5]}, {"k": [1, 1], "event_timestamp": moments})

    assert out["x"] == [None, 5]


def test_a_time_before_all_that_microseconds_can_say_is_refused():
    first = pa.array([-(2**63)], pa.int64()).cast(pa.timestamp("s"))

    with pytest.raises(SourceError, match='column "t" holds a time beyond the reach of microseconds'):
        asked(view_of("x"), {"k": [1], "t": first, "x": [1]}, {"k": [1], "event_timestamp": times(9)})


def test_nanoseconds_before_the_epoch_are_floored_too():
    moments = pa.array([-1_001, -1_000], pa.timestamp("ns"))

    assert asked(
        view_of("x"), {"k": [1], "t": times(-1), "x": [5]}, {"k": [1, 1], "event_timestamp": moments}
    )["x"] == [None, 5]


def test_the_hour_that_daylight_saving_repeats_is_two_hours():
    first, second = (datetime(2013, 11, 3, 1, 30, tzinfo=timezone(timedelta(hours=-h))) for h in (4, 5))
    local = pa.array([first, second]).cast(pa.timestamp("us", "America/New_York"))
    events = {"k": [1, 1], "t": local, "x": [1, 2]}

    out = asked(
        view_of("x", Agg("*", "count", over="1h", name="n")), events, {"k": [1, 1], "event_timestamp": local}
    )

    assert out == {"x": [1, 2], "n": [1, 1]}


def test_the_years_1_and_9999_and_windows_longer_than_time_overflow_nothing():
    far = pa.array([datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)], US)
    events = {"k": [1, 1], "t": far, "x": [1, 2]}
    view = view_of(
        "x",
        Agg("*", "count", over="1d", name="day"),
        Agg("*", "count", over="9999999999999d", name="ever", accuracy="hop(1d)"),
        Agg("*", "count", over="1d", offset="99999999999999d", name="never"),
    )

    out = asked(view, events, {"k": [1, 1], "event_timestamp": far})

    assert out == {"x": [1, 2], "day": [1, 1], "ever": [1, 2], "never": [0, 0]}


def test_infinities_stay_inside_their_own_window():
    events = {"k": [1] * 3, "t": times(0, 10, 20), "x": [float("inf"), 1.0, 2.0]}
    view = view_of(Agg("x", ["sum", "mean", "var", "max"], over="15us"))

    out = asked(view, events, {"k": [1] * 3, "event_timestamp": times(10, 20, 0)})

    assert out["x_sum_15us"] == [float("inf"), 3.0, float("inf")]
    assert out["x_mean_15us"] == [float("inf"), 1.5, float("inf")]
    assert out["x_var_15us"] == [None, 0.5, None]
    assert out["x_max_15us"] == [float("inf"), 2.0, float("inf")]


def test_values_keep_their_types_through_latest_min_max_and_lists():
    events = pa.table(
        {
            "k": [1, 1],
            "t": times(1, 2),
            "i": pa.array([2**62, 1]),
            "d": pa.array([Decimal("1.5"), None]),
            "l": pa.array([[1, 2], [3]]),
            "m": pa.array([[("a", "b")], None], pa.map_(pa.string(), pa.string())),
            "u": pa.array([None, uuid.UUID(int=3)], pa.uuid()),
            "c": pa.array(["x", "y"]).dictionary_encode(),
            "w": pa.array([datetime(2020, 1, 1), None], pa.timestamp("ns")),
        }
    )
    view = view_of(
        "i",
        "d",
        "l",
        "m",
        "u",
        "c",
        "w",
        Agg("i", ["max", "last(2)"], over="1h"),
        Agg("c", "min", over="1h"),
        Agg("u", ["last", "first(2)", "count_distinct"], over="1h"),
        Agg("w", "min", over="1h"),
        Agg("l", "last(2)", over="1h"),
    )
    read = ViewRead(view, view.feature_names, "event", (("k", "k"),))

    out = compute_view(events, pa.table({"k": [1, 9], "event_timestamp": times(2, 2)}), read)

    assert out.schema.field("i_max_1h").type == out.schema.field("i").type == pa.int64()
    assert (out["i_max_1h"].to_pylist(), out["i"].to_pylist()) == ([2**62, None], [1, None])
    assert out["i_last_2_1h"].to_pylist() == [[2**62, 1], None]
    assert (out.schema.field("c").type, out["c"].to_pylist(), out["c_min_1h"].to_pylist()) == (
        pa.string(),
        ["y", None],
        ["x", None],
    )
    assert (out["l"].to_pylist(), out["m"].to_pylist(), out["d"].to_pylist()) == (
        [[3], None],
        [None, None],
        [None, None],
    )
    assert out["l_last_2_1h"].to_pylist() == [[[1, 2], [3]], None]
    assert (out.schema.field("u").type, out["u"].to_pylist()) == (pa.uuid(), [uuid.UUID(int=3), None])
    assert (out["u_last_1h"].to_pylist(), out["u_first_2_1h"].to_pylist()) == (
        [uuid.UUID(int=3), None],
        [[uuid.UUID(int=3)], None],
    )
    assert out["u_count_distinct_1h"].to_pylist() == [1, 0]
    assert out.schema.field("w").type == out.schema.field("w_min_1h").type == US


def test_no_events_and_no_entity_rows_are_answers_too():
    view = view_of(
        "x", Agg("x", ["count", "sum", "last(2)", "quantile(0.5)", "count_distinct", "min"], over="1h")
    )
    none = {"k": pa.array([], pa.int64()), "t": times(), "x": pa.array([], pa.int64())}

    empty = asked(view, none, {"k": [1], "event_timestamp": times(1)})
    nobody = asked(
        view, {"k": [1], "t": times(1), "x": [1]}, {"k": pa.array([], pa.int64()), "event_timestamp": times()}
    )

    assert {name: value for name, [value] in empty.items() if value is not None} == {
        "x_count_1h": 0,
        "x_count_distinct_1h": 0,
    }
    assert set(map(len, nobody.values())) == {0}


def test_an_entity_row_without_a_time_is_refused_with_its_number():
    with pytest.raises(SourceError, match='entity rows: "event_timestamp" is null in row 1'):
        asked(
            view_of("x"),
            {"k": [1], "t": times(1), "x": [1]},
            {"k": [1, 1], "event_timestamp": times(1, None)},
        )


def test_a_time_that_is_no_time_is_refused_with_its_type():
    with pytest.raises(SourceError, match='column "t" holds int64, not times'):
        asked(view_of("x"), {"k": [1], "t": [1], "x": [1]}, {"k": [1], "event_timestamp": times(1)})


def test_only_the_columns_that_the_wanted_features_need_are_read():
    view = view_of(
        "x",
        Agg("late", "mean", over="1h"),
        Agg("*", "count", over="1h", where="late AND y > 0"),
        columns={"z": "q * 2", "late": "z > 15"},
        source=source_of(known_at="known", event_id="id"),
    )
    there = ["k", "t", "known", "id", "x", "y", "q", "unused"]

    assert needed_columns(ViewRead(view, ("x",), "known", (("k", "k"),)), there) == (
        "k",
        "t",
        "known",
        "id",
        "x",
    )
    assert needed_columns(ViewRead(view, view.feature_names, "known", (("k", "k"),)), there) == tuple(
        there[:-1]
    )
    with pytest.raises(SourceError, match='has no column "x"'):
        needed_columns(ViewRead(view, ("x",), "known", (("k", "k"),)), ["k", "t", "known", "id"])


def test_a_subset_of_features_is_computed_from_a_subset_of_columns():
    view = view_of("x", Agg("late", "mean", over="1h"), columns={"late": "delay > 15"})

    out = asked(
        view, {"k": [1], "t": times(1), "x": [3]}, {"k": [1], "event_timestamp": times(1)}, features=("x",)
    )

    assert out == {"x": [3]}


def test_entity_rows_that_share_a_key_and_time_are_each_answered():
    out = asked(
        view_of("x"),
        {"k": [1], "t": times(1), "x": [3]},
        {"k": [1] * 5, "event_timestamp": times(2, 1, 2, 0, 2)},
    )

    assert out["x"] == [3, 3, 3, None, 3]


def test_events_without_a_time_never_happened_and_a_delete_without_one_is_refused():
    view = view_of("x", source=source_of(event_id="id", deleted="gone"))
    events = {"k": [1, 1], "t": times(1, None), "id": [1, 2], "gone": [False, False], "x": [3, 4]}

    assert asked(view, events, {"k": [1], "event_timestamp": times(9)}) == {"x": [3]}
    with pytest.raises(SourceError, match='a delete has no time in "t"'):
        asked(view, {**events, "gone": [False, True]}, {"k": [1], "event_timestamp": times(9)})


def test_a_hundred_versions_of_one_event_leave_one_whatever_their_order():
    order = np.random.default_rng(3).permutation(100)
    source = source_of(event_id="id", created="made")
    events = {
        "k": [1] * 100,
        "t": times(*[5] * 100),
        "id": ["e"] * 100,
        "made": times(*order.tolist()),
        "x": order,
    }

    out = asked(
        view_of("x", Agg("x", "count", over="1h", name="n"), source=source),
        events,
        {"k": [1], "event_timestamp": times(9)},
    )

    assert out == {"x": [99], "n": [1]}
