"""Every mistake is caught where it is declared, and its message names place, object, field and the nearest name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import mlflow_core as ml
from mlflow_core.errors import SpecError, UnknownNameError
from mlflow_core.spec import DType, Duration, OnDemand, Selection, Spec, dtype_of

SOURCE = ml.ParquetSource("flights", path="x.parquet", event_time="at")
VIEW = ml.FeatureView("v", source=SOURCE, features=["x"])
SERVED = ml.FeatureView("w", source=SOURCE, features=["y"], availability=ml.Every("1h"))
SPLIT = ml.TimeSplit(train_until="2013-01-01", validate_until="2013-02-01")
DATA = ml.Dataset(
    features=ml.FeatureService("s", [VIEW]), spine=ml.Spine(SOURCE), label=ml.Label("x > 1"), split=SPLIT
)


def identity(x: object) -> object:
    return x


def two(x: object, y: object) -> object:
    return x


def pipeline(**fields: object) -> ml.TrainingPipeline:
    return ml.TrainingPipeline("p", data=DATA, trainer=ml.XGBoost(), **fields)


def view(**fields: object) -> ml.FeatureView:
    return ml.FeatureView("v", **{"source": SOURCE, "features": ["x"], **fields})


def agg(*args: object, **fields: object) -> ml.Agg:
    return ml.Agg("x", *(args or ("mean",)), **{"over": "1h", **fields})


WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: ml.Entity("a b"), 'Entity "a b": field "name": "a b" is not a name of letters'),
    (lambda: ml.Entity("1a"), "not starting with a digit"),
    (lambda: ml.Entity("a__b"), '"a__b" holds "__"'),
    (lambda: ml.Entity("a", "b"), "takes at most 1 arguments by position, 2 were given"),
    (lambda: ml.Entity("a", name="b"), "name was given twice"),
    (lambda: ml.Entity("a", kyes=["b"]), 'there is no field "kyes". Did you mean "keys"?'),
    (lambda: ml.Entity("a", keys="dest"), "field \"keys\" must be a list, not 'dest'"),
    (lambda: ml.Entity("a", keys=[]), 'field "keys" is empty'),
    (lambda: ml.Entity("a", keys=["b", "b"]), 'field "keys" names a column twice: b, b'),
    (lambda: ml.Entity(3), 'Entity: field "name" must be a text, not 3'),
    (lambda: ml.Entity(), 'Entity: field "name" is missing'),
    (lambda: ml.Entity("a", tags={"x": 3}), 'field "tags.x" must be a text, not 3'),
    (lambda: ml.ParquetSource("s", path="x"), 'field "event_time" is missing'),
    (lambda: ml.ParquetSource("s", path="x", event_time="t", deleted="d"), 'field "deleted" needs "event_id"'),
    (lambda: ml.SqlSource("s", url="x", event_time="t"), 'needs exactly one of "table" and "query"'),
    (lambda: ml.SqlSource("s", url="x", event_time="t", table="a", query="b"), "needs exactly one of"),
    (lambda: view(entity="carrier"), "field \"entity\" must be an Entity, not 'carrier'"),
    (lambda: view(source="flights"), 'field "source" must be a ParquetSource or a SqlSource'),
    (lambda: view(features=["x", 3]), 'field "features[1]" must be a text or an Agg, not 3'),
    (lambda: view(features=[]), 'field "features" is empty'),
    (lambda: view(features=["x", "x"]), 'two features are called "x"'),
    (lambda: view(features=["a"], entity=ml.Entity("a")), 'feature "a" is a key column of entity "a"'),
    (lambda: view(columns={"a b": "1"}), '"a b" is not a name of letters'),
    (lambda: view(ttl=3), 'write it with its unit, as "3s", "3m" or "3h"'),
    (lambda: view(ttl="0s"), 'field "ttl" is 0s'),
    (lambda: view(availability="1h"), "must be an Every, not '1h'"),
    (lambda: view(checks=["x"]), 'field "checks[0]" must be a NullRate or an InRange'),
    (lambda: view(checks=[ml.NullRate("y", below=0.1)]), 'NullRate checks "y", which is no feature of this view'),
    (lambda: Selection(view=VIEW, features=["y"]), 'FeatureView "v" has no feature "y"'),
    (lambda: Selection(view=VIEW, features=[]), 'field "features" is empty'),
    (lambda: Selection(view=VIEW, features=["x", "x"]), '"x" is selected twice'),
    (lambda: agg("meen"), '"meen" is not a function. Did you mean "mean"?'),
    (lambda: agg("1!"), '"1!" is not a function'),
    (lambda: agg("mean(3)"), '"mean(3)": mean takes no argument'),
    (lambda: agg("quantile"), "write quantile(q) with q from 0 to 1"),
    (lambda: agg("quantile(2)"), "q is 2.0, it must be from 0 to 1"),
    (lambda: agg("approx_quantile"), 'write approx_quantile(q) with q from 0 to 1, e.g. "approx_quantile(0.9)"'),
    (lambda: agg("approx_quantile(90)"), 'q is 90.0, it must be from 0 to 1; for 90 % write "approx_quantile(0.9)"'),
    (lambda: agg("approx_quantile(nan)"), "q is nan, it must be from 0 to 1"),
    (lambda: agg("approx_quantil(0.5)"), 'Did you mean "approx_quantile(q)"'),
    (lambda: agg("approx_distinct"), 'Did you mean "approx_count_distinct"'),
    (lambda: agg("approx_count_distinct(12)"), 'takes no argument; write "approx_count_distinct"'),
    (lambda: agg("top_k"), 'write top_k(k) with k from 1 to 100, e.g. "top_k(5)"'),
    (lambda: agg("top_k(1.5)"), "write top_k(k) with k from 1 to 100"),
    (lambda: agg("top_k(0)"), 'k is 0, it must be from 1 to 100; the nearest is "top_k(1)"'),
    (lambda: agg("top_k(500)"), 'k is 500, it must be from 1 to 100; the nearest is "top_k(100)"'),
    (lambda: agg("top_5"), 'Did you mean "top_k(k)"'),
    (lambda: agg("last(0)"), "n must be a whole number of at least 1"),
    (lambda: agg([]), "needs at least one function and one window"),
    (lambda: agg(over="1"), '"1" has no unit, so its length is ambiguous'),
    (lambda: agg(over="soon"), '"soon" is not a duration'),
    (lambda: agg(over="0h"), "a window of 0h holds nothing"),
    (lambda: agg(over=["1h", "60m"]), 'field "over" gives one window twice (1h, 60m)'),
    (lambda: agg(["mean", "max"], name="m"), 'field "name" is "m" but 2 columns are declared'),
    (lambda: agg(name="a b"), 'field "name": "a b" is not a name'),
    (lambda: agg(boundary="[]"), "field \"boundary\" must be '(]' or '[)', not '[]'"),
    (lambda: agg(accuracy="hop"), 'write "exact" or "hop(5m)"'),
    (lambda: agg(accuracy="hop(0s)"), "a hop of 0s does not move"),
    (lambda: ml.Agg("*", "mean", over="1h"), '"*" can only be counted, not mean'),
    (lambda: ml.Every("0h"), 'field "every" is 0h'),
    (lambda: ml.Every("1h", delay="-1h"), 'field "delay" is -1h'),
    (lambda: ml.Every("1h", anchor="soon"), 'field "anchor"'),
    (lambda: ml.NullRate("x", below=2), 'field "below": must be less than or equal to 1 (given: 2)'),
    (lambda: ml.InRange("x"), 'needs "at_least", "at_most" or both'),
    (lambda: ml.InRange("x", at_least=2, at_most=1), "at_least 2.0 is greater than at_most 1.0"),
    (lambda: ml.FeatureService("s", ["v"]), 'field "features[0]" must be a FeatureView or a Selection or an OnDemand'),
    (lambda: ml.FeatureService("s", []), 'field "features" is empty'),
    (lambda: ml.FeatureService("s", [VIEW, VIEW]), '"v" is listed twice'),
    (lambda: ml.FeatureService("s", [VIEW, ml.FeatureView("o", source=SOURCE, features="x")]), '"x" is a feature of both "v" and "o"'),
    (lambda: ml.FeatureService("s", [VIEW], clock="served"), 'clock "served" needs availability, which v does not'),
    (lambda: ml.FeatureService("s", [VIEW], clock="late"), "field \"clock\" must be 'event', 'known' or 'served'"),
    (lambda: OnDemand("o", function=lambda x: x, request={"a": float}), "cannot be imported by another process"),
    (lambda: OnDemand("o", function=two, request={"a": float}), 'field "function" takes 2 arguments'),
    (lambda: OnDemand("o", function=3, request={"a": float}), 'field "function" must be a function, not 3'),
    (lambda: OnDemand("o", function=identity), 'needs "inputs", "request" or both'),
    (lambda: OnDemand("o", function=identity, request={"a b": float}), '"a b" is not a name'),
    (lambda: OnDemand("o", function=identity, request={"a": list}), "is not a type; use bool, int"),
    (lambda: ml.Label(), 'needs exactly one of "expression" and "aggregate"'),
    (lambda: ml.Label("x", entity=ml.Entity("a")), 'field "entity" goes with "aggregate"'),
    (lambda: ml.Label(aggregate=agg(["mean", "max"]), entity=ml.Entity("a")), "must be one function over one window"),
    (lambda: ml.Label(aggregate=agg(offset="1h"), entity=ml.Entity("a")), "an offset has no meaning"),
    (lambda: ml.Label(aggregate=agg()), 'field "entity" is missing'),
    (lambda: ml.TimeSplit(train_until="x", validate_until="2013-01-01"), 'field "train_until"'),
    (lambda: ml.TimeSplit(train_until=3.5j, validate_until="2013-01-01"), 'field "train_until" must be a time'),
    (lambda: ml.TimeSplit(train_until="2014-01-01", validate_until="2013-01-01"), "is not after train_until"),
    (lambda: ml.TimeSplit(train_until="2013-01-01", validate_until="2013-02-01", test_until="2013-02-01"), "is not after validate_until"),
    (lambda: ml.TimeSplit(train_until="2013-01-01", validate_until="2013-02-01", embargo="-1d"), "embargo is -1d"),
    (lambda: ml.Dataset(features=DATA.features, spine=DATA.spine, label=DATA.label, split=SPLIT, clock="served"), 'which view v'),
    (lambda: ml.XGBoost(round=3), 'there is no field "round". Did you mean "rounds"?'),
    (lambda: ml.XGBoost(rounds=0, learning_rate=-1), 'field "rounds": must be greater than or equal to 1 (given: 0); field'),
    (lambda: ml.Register("a b"), '"a b" is not a name'),
    (lambda: pipeline(evaluate=["acu"]), '"acu" is not a metric. Did you mean "auc"?'),
    (lambda: pipeline(evaluate=[]), "a pipeline measures at least one metric"),
    (lambda: pipeline(gate=ml.Gate(metric="rmse")), 'the gate asks for "rmse", which "evaluate" does not measure'),
    (lambda: pipeline(gate=ml.Gate(worst_slice={"auc": 0.5})), '"slices" names no columns'),
    (lambda: pipeline(gate=ml.Gate(better_than="baselines")), '"baselines" names none'),
]  # fmt: skip


@pytest.mark.parametrize(("declare", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_mistake_is_said_once_with_its_place(declare: Callable[[], object], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        declare()
    text = str(caught.value)
    assert message in text
    assert "test_messages.py:" in text
    assert text.count("test_messages.py:") == 1
    assert "Input should" not in text
    assert "function-after" not in text
    assert "\n" not in text


def test_selecting_what_a_view_lacks_names_the_view_and_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r'FeatureView "v": has no feature "y"\. Known: x\.'):
        VIEW[["y"]]
    assert VIEW["x"] == VIEW[["x"]]


@pytest.mark.parametrize("text", ["{", "[1]", '{"nme": "x"}'])
def test_what_is_no_json_of_a_declaration_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="Entity"):
        ml.Entity.from_json(text)


def test_a_part_that_is_wrong_inside_json_names_the_field_of_the_whole() -> None:
    text = (
        '{"name":"v","source":{"kind":"parquet","name":"a b","path":"x","event_time":"t"},"features":["x"]}'
    )
    with pytest.raises(SpecError) as caught:
        ml.FeatureView.from_json(text)
    assert 'FeatureView "v": field "source": field "name": "a b" is not a name' in str(caught.value)


def test_an_error_can_be_made_of_a_declaration() -> None:
    error = VIEW.wrong("is wrong", expected="right", hint="Mend it.")
    assert str(error).endswith('FeatureView "v": is wrong. Expected right. Mend it.')
    assert "test_messages.py:" in str(error)


def test_types_are_read_as_users_write_them() -> None:
    assert [dtype_of(one) for one in (bool, int, float, str, bytes, ml.Timestamp, "list<int64>")] == [
        DType.BOOL, DType.INT64, DType.FLOAT64, DType.STRING, DType.BYTES, DType.TIMESTAMP, DType.INT64_LIST,
    ]  # fmt: skip
    assert DType.INT64.list is DType.INT64_LIST
    with pytest.raises(ValueError, match="is not a type"):
        dtype_of("int")
    assert [DType.UUID.list, DType.MAP.list, DType.INT64_LIST.list] == [None] * 3


def test_a_duration_is_read_written_and_compared_by_its_length() -> None:
    assert Duration("1h30m") == 90 * 60_000_000
    assert str(Duration(" 1h 30m ")) == "1h30m"
    assert Duration("-1d") == -Duration("24h")
    assert isinstance(DATA, Spec)
