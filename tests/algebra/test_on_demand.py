"""On-demand functions: what they are given, and what becomes of what they return."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.algebra.on_demand import evaluate_on_demand, infer_outputs, input_names, load_on_demand
from mlflow_core.algebra.types import TIME
from mlflow_core.errors import EngineError, PlanError
from mlflow_core.spec import Agg, Entity, FeatureView, ParquetSource, Timestamp, on_demand

SOURCE = ParquetSource("s", path="s.parquet", event_time="t")
DELAYS = FeatureView(
    "delays", entity=Entity("k"), source=SOURCE, features=["x", Agg("*", "count", over="1h", name="n")]
)
OTHER = FeatureView("other", entity=Entity("k"), source=SOURCE, features=["x"])
NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)


@on_demand(inputs=[DELAYS], request={"distance": float, "at": Timestamp, "stops": int, "who": str})
def ratios(x):
    return {
        "per_mile": x["x"] / x["distance"],
        "hour": x["at"].astype("datetime64[h]").astype(np.int64) % 24,
        "many": x["n"] > 1,
        "moved": x["at"] + np.timedelta64(1, "h"),
        "who": np.array([None if w is None else w.upper() for w in x["who"]], dtype=object),
    }


@on_demand(request={"a": float}, outputs={"small": "int32", "words": "list<string>"})
def declared(x):
    words = np.empty(len(x["a"]), dtype=object)
    words[:] = [None if np.isnan(a) else ["w"] * int(a) for a in x["a"]]
    return {"small": x["a"], "words": words}


@on_demand(inputs=[DELAYS[["x"]], OTHER], request={"b": bool})
def kinds(x):
    return {name: np.array([value.dtype.str] * len(value), dtype=object) for name, value in x.items()}


def inputs(**changes):
    return {
        "x": pa.array([1.0, None, 3.0]),
        "n": pa.array([0, 1, 2]),
        "distance": pa.chunked_array([[2.0], [2.0, 0.0]]),
        "at": pa.array([NOON, NOON, None], pa.timestamp("ns", "UTC")),
        "stops": pa.array([1, 2, 3]),
        "who": pa.array(["a", None, "b"]),
    } | changes


def test_values_go_in_as_arrays_and_come_back_as_columns_with_nulls_for_nan():
    out = evaluate_on_demand(ratios, inputs(at=pa.array([NOON, NOON, NOON], TIME)))

    assert out["per_mile"].to_pylist() == [0.5, None, float("inf")]
    assert (out["hour"].type, out["hour"].to_pylist()) == (pa.int64(), [12, 12, 12])
    assert out["many"].to_pylist() == [False, False, True]
    assert (out["moved"].type, out["moved"][0].as_py().hour) == (TIME, 13)
    assert out["who"].to_pylist() == ["A", None, "B"]


def test_types_are_found_on_empty_arrays_or_declared():
    found = infer_outputs(ratios, {"x": pa.float64(), "n": pa.int64()})

    assert found == {
        "per_mile": pa.float64(),
        "hour": pa.int64(),
        "many": pa.bool_(),
        "moved": TIME,
        "who": pa.string(),
    }
    assert infer_outputs(declared, {}) == {"small": pa.int32(), "words": pa.list_(pa.string())}
    out = evaluate_on_demand(declared, {"a": pa.array([1.0, None])})
    assert out["small"].to_pylist() == [1, None]
    assert out["words"].to_pylist() == [["w"], None]


def test_a_count_is_whole_a_feature_that_may_be_null_is_a_float_and_shared_names_carry_their_view():
    names = input_names(kinds)
    given = {name: pa.array([1, None]) for name in names.values()} | {"b": pa.array([True, None])}
    whole = {name: pa.array([1, 2]) for name in names.values()} | {"b": pa.array([True, False])}

    assert set(names.values()) == {"delays__x", "other__x"}
    assert {k: v[0].as_py() for k, v in evaluate_on_demand(kinds, given).items()} == dict.fromkeys(
        ["delays__x", "other__x", "b"], "<f8"
    )
    assert {k: v[0].as_py() for k, v in evaluate_on_demand(kinds, whole).items()} == {
        "delays__x": "<f8",
        "other__x": "<f8",
        "b": "|b1",
    }


@on_demand(request={"a": float})
def short(x):
    return {"y": x["a"][:1]}


@on_demand(request={"a": float})
def failing(x):
    return {"y": x["nothing"]}


@on_demand(request={"a": float})
def bare(x):
    return x["a"]


@on_demand(request={"a": float}, outputs={"y": int})
def fractional(x):
    return {"y": x["a"]}


@on_demand(request={"a": float}, outputs={"y": int, "z": int})
def forgetful(x):
    return {"y": x["a"]}


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (short, r'returns "y" of shape \(1,\) for 2 rows'),
        (failing, "fails with KeyError: 'nothing'"),
        (bare, "returns ndarray"),
        (fractional, 'returns "y" that is not all int64'),
        (forgetful, 'returns no "z"'),
    ],
)
def test_a_function_that_does_not_keep_its_word_is_named_with_what_it_did(one, said):
    with pytest.raises(EngineError, match=rf'OnDemand "{one.name}": {said}'):
        evaluate_on_demand(one, {"a": pa.array([0.5, 1.5])})


def test_an_input_that_is_not_there_is_named():
    with pytest.raises(EngineError, match='needs "a", which was not given'):
        evaluate_on_demand(short, {"b": pa.array([1.0])})


def test_declarations_load_by_import_path_and_unknown_ones_are_refused():
    assert load_on_demand("tests.algebra.test_on_demand:ratios") == ratios
    with pytest.raises(PlanError, match='no on-demand features "ratio"'):
        load_on_demand("tests.algebra.test_on_demand:ratio")
    with pytest.raises(PlanError, match="cannot import no_such_module"):
        load_on_demand("no_such_module:x")


@on_demand(inputs=[OTHER], outputs={"y": str})
def classes(x):
    return {"y": np.array([type(value).__name__ for value in x["x"]], dtype=object)}


def test_what_is_no_number_and_no_time_arrives_as_objects():
    given = pa.array([uuid.UUID(int=1), None], pa.uuid())

    assert evaluate_on_demand(classes, {"x": given})["y"].to_pylist() == ["UUID", "NoneType"]
