"""Columns to numbers: every Arrow type, missing values, dictionaries, sequences; a table and a request say the same."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import XGBoost
from mlflow_core.train.data.preprocess import Feature, Preprocessing, kind_of, refuse_sequences
from tests.train.made import fit, table, write

GREATEST = float(np.finfo(np.float32).max)
DELAY = Feature("delay", "number", "double", mean=3.0, std=2.0)
LATE = Feature("late", "bool", "bool")
CARRIER = Feature("carrier", "category", "string", ("AA", "B6", "UA"))
LEGS = Feature("legs", "number", "list<element: double>", length=3, mean=1.0, std=2.0)
PLACES = Feature("places", "category", "list<element: string>", ("EWR", "JFK"), length=2)
ALL = Preprocessing((DELAY, LEGS, CARRIER, PLACES, LATE))

NAN = float("nan")


def only(feature: Feature, column: pa.Array | pa.ChunkedArray) -> list[list[float]]:
    """The matrix of one column, NaN as None."""
    matrix = Preprocessing((feature,)).matrix(pa.table({feature.name: column}))
    return [[None if np.isnan(value) else float(value) for value in row] for row in matrix]  # type: ignore[misc]


def test_a_sequence_takes_its_positions_and_one_column_more() -> None:
    assert ALL.names == ("delay", "legs", "carrier", "places", "late")
    assert ALL.columns == (
        *("delay", "legs[0]", "legs[1]", "legs[2]", "legs.length"),
        *("carrier", "places[0]", "places[1]", "places.length", "late"),
    )
    assert ALL.width == 10
    assert {name: (own.start, own.stop) for name, own in ALL.slices.items()} == {
        "delay": (0, 1),
        "legs": (1, 5),
        "carrier": (5, 6),
        "places": (6, 9),
        "late": (9, 10),
    }
    assert ALL.xgboost_types == ["q", "q", "q", "q", "q", "c", "c", "c", "q", "q"]


def test_the_newest_element_is_in_the_last_position_and_padding_is_told_from_missing() -> None:
    lists = pa.array([[1.0, 2.0, 3.0], [4.0], [], None, [None, 5.0], [7.0, NAN]])

    assert only(LEGS, lists) == [
        [1.0, 2.0, 3.0, 3.0],
        [None, None, 4.0, 1.0],
        [None, None, None, 0.0],
        [None, None, None, 0.0],
        [None, None, 5.0, 2.0],
        [None, 7.0, None, 2.0],
    ]


def test_of_a_list_that_is_longer_than_in_training_the_newest_elements_are_kept() -> None:
    assert only(LEGS, pa.array([[1.0, 2.0, 3.0, 4.0, 5.0], [6.0]])) == [
        [3.0, 4.0, 5.0, 3.0],
        [None, None, 6.0, 1.0],
    ]


def test_a_list_of_strings_is_read_by_one_dictionary_and_what_it_does_not_know_is_missing() -> None:
    assert only(PLACES, pa.array([["JFK", "LGA"], ["EWR"], [None, "JFK"]])) == [
        [1.0, None, 2.0],
        [None, 0.0, 1.0],
        [None, 1.0, 2.0],
    ]


@pytest.mark.parametrize(
    "type_",
    [
        pa.list_(pa.float32()),
        pa.large_list(pa.int64()),
        pa.list_(pa.decimal128(5, 1)),
        pa.list_view(pa.float64()),
        pa.large_list_view(pa.int8()),
        pa.list_(pa.dictionary(pa.int8(), pa.float64())),
    ],
)
def test_lists_of_every_arrow_kind_are_read_alike(type_: pa.DataType) -> None:
    values = [[1, 2], None, [], [3, None, 5, 6]]
    if pa.types.is_dictionary(type_.value_type):
        items = pa.array([1.0, 2.0, 3.0, None, 5.0, 6.0]).dictionary_encode()
        column = pa.ListArray.from_arrays(
            pa.array([0, 2, 2, 2, 6], pa.int32()), items, mask=pa.array([False, True, False, False])
        )
    elif pa.types.is_decimal(type_.value_type):
        column = pa.array(
            [None if v is None else [None if i is None else Decimal(i) for i in v] for v in values], type_
        )
    else:
        column = pa.array(values, type_)

    assert only(LEGS, column) == [
        [None, 1.0, 2.0, 2.0],
        [None, None, None, 0.0],
        [None, None, None, 0.0],
        [None, 5.0, 6.0, 3.0],
    ]


def test_lists_of_one_size_and_slices_of_lists_are_read_too() -> None:
    fixed = pa.array([[1.0, 2.0], None, [3.0, None]], pa.list_(pa.float64(), 2))
    assert only(LEGS, fixed) == [[None, 1.0, 2.0, 2.0], [None, None, None, 0.0], [None, 3.0, None, 2.0]]

    whole = pa.array([[1.0], [2.0, 3.0], None, [4.0], [5.0, 6.0]])
    assert only(LEGS, whole.slice(1, 3)) == only(LEGS, pa.array([[2.0, 3.0], None, [4.0]]))


def test_chunks_with_dictionaries_of_their_own_give_the_same_codes() -> None:
    chunks = pa.chunked_array(
        [
            pa.array(["UA", "AA"]).dictionary_encode(),
            pa.array(["B6", "UA", None, "ZZ"]).dictionary_encode(),
        ]
    )
    assert only(CARRIER, chunks) == [[2.0], [0.0], [1.0], [2.0], [None], [None]]

    lists = pa.chunked_array(
        [
            pa.ListArray.from_arrays([0, 1], pa.array(["JFK"]).dictionary_encode()),
            pa.ListArray.from_arrays([0, 2], pa.array(["EWR", "JFK"]).dictionary_encode()),
        ]
    )
    assert only(PLACES, lists) == [[None, 1.0, 1.0], [0.0, 1.0, 2.0]]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None, 3], pa.int8()),
        pa.array([1, None, 3], pa.uint64()),
        pa.array([1.0, None, 3.0], pa.float16()),
        pa.array([1.0, NAN, 3.0], pa.float32()),
        pa.array([1.0, None, 3.0], pa.float32()),
        pa.array([1.0, None, 3.0], pa.float64()),
        pa.array([Decimal(1), None, Decimal(3)], pa.decimal128(9, 2)),
        pa.array([1, None, 3]).dictionary_encode(),
    ],
)
def test_numbers_of_every_arrow_type_are_read_alike(column: pa.Array) -> None:
    assert only(DELAY, column) == [[1.0], [None], [3.0]]


@pytest.mark.parametrize("type_", [pa.float32(), pa.float64()])
def test_an_infinity_and_what_float32_cannot_hold_become_its_greatest_value(type_: pa.DataType) -> None:
    values = [np.inf, -np.inf] + ([1e300] if type_ == pa.float64() else [GREATEST])

    assert only(DELAY, pa.array(values, type_)) == [[GREATEST], [-GREATEST], [GREATEST]]
    assert only(LEGS, pa.array([values], pa.list_(type_))) == [[GREATEST, -GREATEST, GREATEST, 3.0]]


def test_a_column_that_is_null_throughout_is_missing() -> None:
    assert only(DELAY, pa.nulls(2)) == [[None], [None]]
    assert only(LEGS, pa.nulls(1)) == [[None, None, None, 0.0]]
    assert only(LEGS, pa.array([None, []], pa.list_(pa.null()))) == [[None, None, None, 0.0]] * 2


def test_no_rows_are_a_matrix_of_no_rows() -> None:
    empty = {
        "delay": pa.array([], pa.float64()),
        "legs": pa.array([], pa.list_(pa.float64())),
        "carrier": pa.array([], pa.string()),
        "places": pa.array([], pa.list_(pa.string())),
        "late": pa.array([], pa.bool_()),
    }

    assert ALL.matrix(pa.table(empty)).shape == (0, 10)
    assert ALL.matrix_of({name: [] for name in empty}).shape == (0, 10)


def test_more_rows_than_are_read_at_once_come_out_in_their_order() -> None:
    rows = 50_001
    numbers = np.arange(rows, dtype=np.float64)
    lists = pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32), numbers)
    chunked = pa.chunked_array([lists.slice(0, 20_000), lists.slice(20_000)])

    matrix = Preprocessing((DELAY, LEGS)).matrix(pa.table({"delay": numbers, "legs": chunked}))

    np.testing.assert_array_equal(matrix[:, 0], numbers)
    np.testing.assert_array_equal(matrix[:, 3], numbers)
    assert set(matrix[:, 4]) == {1.0}


def test_a_part_of_a_wider_array_can_be_filled() -> None:
    wide = np.full((3, 4), -1.0, dtype=np.float32)

    Preprocessing((DELAY, LATE)).fill(
        wide[:, 1:3], pa.table({"late": [True, None, False], "delay": [1.0, 2.0, None]})
    )

    np.testing.assert_array_equal(wide, [[-1, 1, 1, -1], [-1, 2, NAN, -1], [-1, NAN, 0, -1]])


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "delay": st.none() | st.floats(width=64),
    "late": st.none() | st.booleans(),
    "carrier": st.none() | st.sampled_from(["AA", "B6", "UA", "ZZ", ""]),
    "legs": st.none() | st.lists(st.none() | st.floats(width=64), max_size=6),
    "places": st.none() | st.lists(st.none() | st.sampled_from(["EWR", "JFK", "LGA"]), max_size=4),
}
TYPES = {
    "delay": pa.float64(),
    "late": pa.bool_(),
    "carrier": pa.string(),
    "legs": pa.list_(pa.float64()),
    "places": pa.list_(pa.string()),
}


@given(st.lists(st.fixed_dictionaries(VALUES), max_size=8))
def test_a_request_of_python_values_gives_the_numbers_of_the_table(rows: list[dict[str, Any]]) -> None:
    columns = {name: [row[name] for row in rows] for name in TYPES}
    table = pa.table({name: pa.array(columns[name], type_) for name, type_ in TYPES.items()})

    np.testing.assert_array_equal(ALL.matrix_of(columns), ALL.matrix(table))


@pytest.mark.parametrize(
    ("name", "column", "values", "said"),
    [
        ("delay", pa.array(["a"]), ["a"], 'feature "delay" is of type string.*trained on double'),
        ("delay", pa.array([[1.0]]), [[1.0]], 'feature "delay" is of type list.*trained on double'),
        ("carrier", pa.array([1]), [1], 'feature "carrier" is of type int.*trained on string'),
        ("legs", pa.array([1.0]), [1.0], 'feature "legs" is of type (double|float).*a list of which each'),
        ("legs", pa.array([["a"]]), [["a"]], 'feature "legs" is of type string'),
        ("legs", pa.array(["abc"]), ["abc"], 'feature "legs" is of type str'),
        ("places", pa.array([[1]]), [[1]], 'feature "places" is of type int'),
    ],
)
def test_a_column_of_another_kind_than_in_training_is_named(
    name: str, column: pa.Array, values: list[Any], said: str
) -> None:
    preprocessing = Preprocessing(tuple(one for one in ALL.features if one.name == name))

    with pytest.raises(TrainError, match=said):
        preprocessing.matrix(pa.table({name: column}))
    with pytest.raises(TrainError, match=said):
        preprocessing.matrix_of({name: values})


def test_a_missing_column_is_named_with_the_nearest() -> None:
    with pytest.raises(TrainError, match=r'needs the column "delay".*Did you mean "dealy"'):
        Preprocessing((DELAY,)).matrix(pa.table({"dealy": [1.0]}))


@pytest.mark.parametrize(
    ("type_", "hint"),
    [
        (pa.timestamp("us", "UTC"), r"ml\.hour"),
        (pa.date32(), r"ml\.hour"),
        (pa.list_(pa.string()), "an aggregate with one value"),
        (pa.struct({"a": pa.int64()}), "Leave it out of the feature service"),
    ],
)
def test_a_type_that_no_model_reads_is_refused_with_the_way_out(type_: pa.DataType, hint: str) -> None:
    with pytest.raises(TrainError, match=f'feature "dests" is of type .*{hint}'):
        kind_of("dests", type_)


def test_a_trainer_of_single_values_refuses_sequences_with_the_way_out() -> None:
    with pytest.raises(TrainError, match=r'feature "legs" is of type list.*an aggregate with one value'):
        refuse_sequences(ALL)
    refuse_sequences(Preprocessing((DELAY, CARRIER, LATE)))


def test_trees_refuse_a_list_in_training(tmp_path: Path) -> None:
    parts = {
        p: [table(50, n).append_column("last", pa.array([["a"]] * 50))]
        for n, p in enumerate(("train", "validate", "test"))
    }

    with pytest.raises(TrainError, match='feature "last" is of type list'):
        fit(XGBoost(), write(tmp_path / "d", parts, features=("last",)), workdir=tmp_path / "w")


def test_json_keeps_everything_and_the_digest_tells_any_difference() -> None:
    again = Preprocessing.from_json(json.loads(json.dumps(ALL.to_json())))

    assert again == ALL
    assert again.digest == ALL.digest
    others = [
        Preprocessing(ALL.features[::-1]),
        Preprocessing((DELAY,)),
        Preprocessing((Feature("delay", "number", "double", mean=3.0, std=2.0000000000000004),)),
        Preprocessing((Feature("legs", "number", "list<element: double>", length=4, mean=1.0, std=2.0),)),
        Preprocessing((Feature("carrier", "category", "string", ("AA", "UA", "B6")),)),
    ]
    assert len({one.digest for one in [ALL, *others]}) == 6


def test_what_an_older_version_wrote_is_read_without_statistics() -> None:
    old = [{"name": "delay", "kind": "number", "type": "double"}]

    assert Preprocessing.from_json(old).features == (Feature("delay", "number", "double"),)
