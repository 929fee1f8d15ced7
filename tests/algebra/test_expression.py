"""Expressions: their types, their values, their order, and what may not be in one."""

from __future__ import annotations

import datetime as dt
import math
import threading

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.algebra.expression import columns_used, evaluate, expression_types, holds
from mlflow_core.errors import EngineError, PlanError

MOMENT = dt.datetime(2013, 3, 10, 1, 59, 59, 999_999, tzinfo=dt.UTC)
EVENTS = pa.table(
    {
        "scheduled_departure": pa.array([MOMENT, None], pa.timestamp("us", tz="UTC")),
        "dep_delay": pa.array([1.5, math.nan]),
        "arr_delay": pa.array([16, None], pa.int64()),
        "dest": pa.array(["é", "BOS"]).dictionary_encode(),
        "codes": pa.array([[1, 2], None], pa.list_(pa.int64())),
        "tail": pa.array([b"a" * 16, None], pa.binary(16)),
    }
)


def value(expression: str, table: pa.Table = EVENTS) -> list[object]:
    return evaluate(table, {"x": expression}, title="flights").column("x").to_pylist()


def problem(expression: str) -> str:
    with pytest.raises(PlanError) as caught:
        evaluate(EVENTS, {"x": expression}, title="flights")
    return str(caught.value)


def test_a_time_minus_an_interval_keeps_its_microseconds_and_stays_utc() -> None:
    made = evaluate(EVENTS, {"at": "scheduled_departure - INTERVAL '2 hours'"}, title="flights")
    assert made.schema.field("at").type == pa.timestamp("us", tz="UTC")
    assert made.column("at").to_pylist() == [MOMENT - dt.timedelta(hours=2), None]


def test_a_day_is_cut_in_utc_even_where_new_york_changes_its_clocks() -> None:
    assert value("date_trunc('day', scheduled_departure)")[0] == dt.datetime(2013, 3, 10, tzinfo=dt.UTC)


def test_rows_keep_their_order_in_large_tables() -> None:
    rows = np.random.default_rng(7).permutation(500_000)
    made = evaluate(pa.table({"row": rows}), {"next": "row + 1"}, title="order")
    assert np.array_equal(made.column("next").to_numpy(), rows + 1)


def test_later_expressions_see_earlier_ones_and_a_shadowing_name_replaces_the_column() -> None:
    made = evaluate(
        EVENTS,
        {"arr_delay": "coalesce(arr_delay, 0)", "late": "arr_delay > 15", "in_time": "NOT late"},
        title="flights",
    )
    assert made.column("arr_delay").to_pylist() == [16, 0]
    assert made.column("in_time").to_pylist() == [False, True]
    assert made.column_names.count("arr_delay") == 1


def test_the_order_in_which_expressions_are_written_does_not_matter() -> None:
    forwards = evaluate(EVENTS, {"a": "arr_delay + 1", "b": "a * 2"}, title="flights")
    backwards = evaluate(EVENTS, {"b": "a * 2", "a": "arr_delay + 1"}, title="flights")
    assert backwards.column_names[-2:] == ["b", "a"]
    assert backwards.select(["a", "b"]).equals(forwards.select(["a", "b"]))


def test_expressions_that_need_each_other_are_drawn_as_a_circle() -> None:
    with pytest.raises(PlanError, match=r"in a circle: (a -> b -> a|b -> a -> b)"):
        evaluate(EVENTS, {"a": "b + 1", "b": "a + 1"}, title="flights")
    with pytest.raises(PlanError, match='there is no column "a"'):
        evaluate(EVENTS, {"a": "a + 1"}, title="flights")


def test_nan_is_null_on_the_way_in_and_out_and_infinity_is_a_value() -> None:
    assert value("dep_delay IS NULL") == [False, True]
    assert value("dep_delay * 0 / 0") == [None, None]
    assert value("dep_delay / 0") == [math.inf, None]


def test_an_expression_without_columns_has_a_value_for_every_row() -> None:
    assert value("1") == [1, 1]


def test_a_comment_at_the_end_does_not_swallow_the_query() -> None:
    assert value("arr_delay -- minutes") == [16, None]


def test_names_are_found_whatever_their_case_but_the_right_case_wins() -> None:
    assert columns_used(["Late", "late"], "late") == {"late"}
    assert columns_used(["Late"], "LATE + 1") == {"Late"}
    with pytest.raises(PlanError, match=r'"LATE" could be any of Late, late, at character 1'):
        columns_used(["Late", "late"], "LATE")


def test_names_in_quotes_may_hold_anything() -> None:
    table = pa.table({'odd "name"': [1]})
    assert value('"odd ""name""" + 1', table) == [2]


def test_the_parameters_of_a_lambda_are_not_columns() -> None:
    assert value("list_transform(codes, lambda c: c + arr_delay)") == [[17, 18], None]
    assert columns_used(["codes", "arr_delay"], "list_filter(codes, lambda c, i: c > arr_delay)") == {
        "codes",
        "arr_delay",
    }


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("arr_delay > 15", pa.bool_()),
        ("arr_delay + 1", pa.int64()),
        ("arr_delay * 1.5", pa.float64()),
        ("arr_delay::HUGEINT", pa.float64()),
        ("arr_delay::SMALLINT", pa.int32()),
        ("dest", pa.string()),
        ("scheduled_departure::DATE", pa.timestamp("us", tz="UTC")),
        ("codes", pa.list_(pa.int64())),
        ("'0190a8e0-0000-7000-8000-000000000001'::UUID", pa.uuid()),
        ("epoch(scheduled_departure - scheduled_departure)", pa.float64()),
    ],
)
def test_types_are_told_without_data_and_are_those_of_the_values(expression: str, kind: pa.DataType) -> None:
    assert expression_types(EVENTS.schema, {"x": expression}, title="flights") == {"x": kind}
    assert evaluate(EVENTS, {"x": expression}, title="flights").schema.field("x").type == kind


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("sum(arr_delay)", '"sum" looks at many rows, at character 1'),
        ("1 + count(*)", '"count_star" looks at many rows, at character 5'),
        ("row_number() OVER ()", "a window function looks at other rows, at character 1"),
        ("arr_delay + (SELECT 1)", "a subquery looks at other rows, at character 13"),
        ("random()", '"random" gives another value each time it is asked, at character 1'),
        ("arr_delay > epoch(now())", '"now" gives another value each time it is asked, at character 19'),
        ("current_date", '"current_date" differs from run to run'),
        ("current_setting('threads')", '"current_setting" gives another value'),
        ("read_text('/etc/hostname')", '"read_text" is not a function of one row'),
        ("unnest(codes)", '"unnest" is not a function of one row'),
        ("user", "differs from run to run and from reader to reader"),
        ("*", "an expression gives one value, not all columns"),
        ("columns('.*')", "an expression gives one value, not all columns"),
        ("?", "there are no parameters to fill in"),
        ("#1", "columns are called by name, not by number"),
        ("1; SELECT 2", "several statements"),
        ("1; DROP TABLE x", "several statements, at character 2"),
        ("arr_delay, dest", "it is 2 expressions"),
        ("arr_delay AS late", 'it names itself "late"'),
        ("arr_delay FROM flights", "it is a query"),
        ("DISTINCT arr_delay", "it is a query"),
        ("", "it is empty"),
        ("arr_delay +* 2", 'there is no function "+*"'),
        ("arr_delay > > 1", 'syntax error at or near ">", at character 13'),
        ("arr_delay +", "syntax error"),
        ("'é' || dep_dealy", 'there is no column "dep_dealy", at character 8'),
        (
            "lengthx(dest)",
            'there is no function "lengthx", at character 1 of `lengthx(dest)`. Did you mean "length"?',
        ),
        ("1 + abs(dest)", "'abs(VARCHAR)'. You might need to add explicit type casts, at character 5"),
        ("NULL", "is always null"),
        ("scheduled_departure - scheduled_departure", "gives interval, which no feature can have"),
        ("{'a': 1}", "gives struct"),
        ("at - INTERVAL '2 hours'", 'If at is a column, write "at", in double quotes'),
        ("arr_delay + Order", 'If Order is a column, write "Order", in double quotes'),
        ("coalesce(at, 3)", 'If at is a column, write "at", in double quotes'),
    ],
)
def test_what_is_no_value_of_one_row_is_refused_with_its_position(expression: str, message: str) -> None:
    text = problem(expression)
    assert message in text
    assert text.startswith('flights: column "x": ')
    assert "\n" not in text


def test_an_unknown_column_names_the_nearest() -> None:
    assert 'Did you mean "dep_delay"?' in problem("dep_dealy > 1")


def test_a_value_that_cannot_be_computed_is_an_error_of_the_data() -> None:
    with pytest.raises(EngineError, match="Could not convert string") as caught:
        evaluate(EVENTS, {"x": "dest::INTEGER"}, title="flights")
    assert "`dest::INTEGER`" in str(caught.value)


def test_a_condition_that_is_null_does_not_hold() -> None:
    assert holds(EVENTS, "arr_delay > 15", title="flights").to_pylist() == [True, False]
    assert holds(EVENTS.slice(0, 0), "arr_delay > 15", title="flights").to_pylist() == []


def test_a_condition_that_is_a_number_is_refused() -> None:
    with pytest.raises(PlanError, match="the condition gives int64: `arr_delay`"):
        holds(EVENTS, "arr_delay", title="flights")


def test_an_uuid_column_comes_out_as_uuids() -> None:
    table = pa.table({"id": pa.array([b"x" * 16, None], pa.uuid())})
    made = evaluate(table, {"same": "id"}, title="ids")
    assert made.column("same").type == pa.uuid()
    assert made.column("same").to_pylist() == table.column("id").to_pylist()


def test_threads_do_not_see_each_others_rows() -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        table = pa.table({"n": [number] * 100})
        for _ in range(20):
            if evaluate(table, {"x": "n * 2"}, title="t").column("x").to_pylist() != [number * 2] * 100:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "expression", ["arr_delay >", "arr_delay > 15 AND", "(arr_delay + dest", "CASE WHEN arr_delay 1"]
)
def test_a_mistake_that_is_no_columns_name_gets_no_hint_about_quotes(expression: str) -> None:
    assert "double quotes" not in problem(expression)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("current_localtimestamp()", "gives another value each time it is asked, at character 1"),
        (
            "1 + epoch(age(seen))",
            r'"age" of one time looks at the time of day, at character 11.*age\(later, earlier\)',
        ),
        ("version()", "other values in another version of DuckDB, at character 1"),
        ("1 + hash(dest)", r"another version of DuckDB, at character 5.*md5\(text\)"),
        (
            "alias(dest)",
            "how a column is called here, at|how a column is called here, not what is in it, at character 1",
        ),
        ("json_serialize_plan('SELECT 1')", "a query in disguise, at character 1"),
        ("__internal_decompress_string(dest)", "a piece of DuckDB's own, at character 1"),
        ("dest; SELECT 1", "several statements, at character 5"),
        ("dest;", "several statements, at character 5"),
        ("dest || ';'; DROP TABLE x", "several statements, at character 12"),
        ("dest FROM 'from'", "is a query.*at character 6"),
        ("'from' || dest UNION SELECT 1", "is a query.*at character 16"),
        ('dest AS "to"', 'names itself "to".*at character 10'),
        ("dest, dep_delay", "is 2 expressions, at character 7"),
        ("-- dest", "it is empty"),
        ("row(dest, dep_delay)", "gives a struct"),
        ("dest = $1", "no parameters to fill in, at character 8"),
        ("COLUMNS('d.*')", "not all columns, at character 1"),
        ("#1", "by name, not by number"),
        ("list_filter([1, 2], one -> random() > one)", '"random" gives another value.*at character 28'),
        ("list_sum([(SELECT 1)])", "a subquery looks at other rows, at character 11"),
        ("dep_delay OVER ()", "at character 11"),
        ("abs(dep_delay) OVER ()", "at character|window"),
    ],
)
def test_what_looks_beyond_one_row_is_refused_wherever_it_hides(expression, message):
    schema = pa.schema(
        [("dest", pa.string()), ("dep_delay", pa.int64()), ("seen", pa.timestamp("us", tz="UTC"))]
    )
    with pytest.raises(PlanError, match=message):
        expression_types(schema, {"z": expression}, title="flights")


def test_a_very_long_or_deep_expression_is_told_of_in_a_few_lines():
    schema = pa.schema([("a", pa.int64())])
    for expression in ("(" * 3000 + "a" + ")" * 3000, "+".join(["a"] * 5000), "a + " * 900 + "random()"):
        with pytest.raises(
            PlanError, match=r"depth limit|nested more than 180 deep.*Name some of its parts"
        ) as caught:
            expression_types(schema, {"z": expression}, title="flights")
        assert len(str(caught.value)) < 600
    with pytest.raises(PlanError, match="another value each time it is asked, at character 601") as caught:
        expression_types(schema, {"z": "a + " * 150 + "random()"}, title="flights")
    assert len(str(caught.value)) < 600
    wide = f"CASE {' '.join(f'WHEN a = {n} THEN {n}' for n in range(500))} END + a" + " + a" * 160
    assert expression_types(schema, {"z": wide}, title="flights")["z"] == pa.int64()


def test_a_number_that_no_feature_can_hold_is_told_and_an_age_of_two_times_counts():
    table = pa.table({"a": [-1], "seen": pa.array([3_600_000_000]).cast(pa.timestamp("us", "UTC"))})
    with pytest.raises(EngineError, match=r"does not fit.*Cast it to BIGINT or DOUBLE"):
        evaluate(table, {"z": "18446744073709551615::UBIGINT"}, title="flights")
    assert evaluate(table, {"z": "epoch(age(seen, TIMESTAMPTZ 'epoch'))"}, title="flights")[
        "z"
    ].to_pylist() == [3600.0]
