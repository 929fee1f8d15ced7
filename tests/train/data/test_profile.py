"""The first look at the shards: statistics of the training part, one dictionary, what is refused and what is noted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster
from hypothesis import given
from hypothesis import strategies as st

from mlflow_core.errors import TrainError
from mlflow_core.train.data.label import LabelProfile, check_label, check_weights
from mlflow_core.train.data.preprocess import Preprocessing
from mlflow_core.train.data.profile import ColumnProfile, merge, merge_further, pieces, profile_shard
from mlflow_core.train.data.survey import survey
from mlflow_core.train.data.training_set import TrainingData
from tests.train.made import FEATURES, training_set


def shards(folder: Path, *tables: pa.Table, groups: int = 1000) -> TrainingData:
    folder.mkdir(exist_ok=True)
    paths = []
    for number, one in enumerate(tables):
        paths.append(folder / f"{number}.parquet")
        pq.write_table(one, paths[-1], row_group_size=groups)
    names = tuple(name for name in tables[0].column_names if name != "label")
    return TrainingData({"train": tuple(paths)}, "label", names)


def learned(data: TrainingData, *, sequences: bool = True) -> tuple[Preprocessing, tuple[str, ...]]:
    profiles = survey(data, parts=["train"])["train"]
    preprocessing, notes, _ = merge(profiles, data.features, sequences=sequences)
    return preprocessing, notes


def with_label(**columns: pa.Array | pa.ChunkedArray | list[object] | np.ndarray) -> pa.Table:
    table = pa.table(columns)
    return table.append_column("label", pa.array([n % 2 for n in range(table.num_rows)]))


# ------------------------------------------------------------------------------------------------ statistics


def test_mean_and_deviation_are_those_of_all_training_rows_at_once(tmp_path: Path) -> None:
    data = training_set(tmp_path / "d")
    table = data.read("train")

    profiles = survey(data)
    preprocessing, notes, label = merge(profiles["train"], FEATURES)

    for name in ("delay", "gust", "hour", "late"):
        values = table.column(name).cast(pa.float64() if name != "late" else pa.uint8()).to_numpy()
        values = values.astype(np.float64)
        feature = next(one for one in preprocessing.features if one.name == name)
        assert feature.mean == pytest.approx(np.nanmean(values), rel=1e-13)
        assert feature.std == pytest.approx(np.nanstd(values), rel=1e-13)
    assert notes == ()
    assert (label.rows, label.ones) == (3500, int(table.column("label").cast(pa.int64()).to_numpy().sum()))
    assert profiles["validate"][0].columns == {}


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6, width=32), max_size=30), min_size=1, max_size=6),
    st.floats(-1e9, 1e9),
)
def test_statistics_of_parts_join_to_those_of_the_whole(parts: list[list[float]], offset: float) -> None:
    joined: ColumnProfile | None = None
    for part in parts:
        values = np.array(part, dtype=np.float64) + offset
        mean = float(values.mean()) if len(values) else 0.0
        here = ColumnProfile(
            "number",
            "double",
            len(values),
            0,
            count=len(values),
            mean=mean,
            squares=float(((values - mean) ** 2).sum()),
            least=float(values.min(initial=np.inf)),
            greatest=float(values.max(initial=-np.inf)),
        )
        joined = here if joined is None else joined.joined(here)
    whole = np.concatenate([np.array(part, dtype=np.float64) + offset for part in parts])

    assert joined is not None
    assert joined.count == len(whole)
    if len(whole):
        scale = max(1.0, abs(offset))
        assert joined.mean == pytest.approx(whole.mean(), rel=1e-12, abs=1e-9)
        # Far from zero the values themselves are only known to 1e-16 of their size.
        assert joined.std == pytest.approx(whole.std(), rel=1e-9, abs=1e-14 * scale)


def test_a_small_spread_far_from_zero_is_not_lost(tmp_path: Path) -> None:
    values = 1e9 + np.tile([0.0, 1.0], 5000)
    data = shards(tmp_path, *(with_label(x=part) for part in np.split(values, 5)), groups=333)

    preprocessing, _ = learned(data)

    assert preprocessing.features[0].mean == 1e9 + 0.5
    # A mean of 1e9 is held to 1e-7; the difference of sums of squares would give a deviation of 11.
    assert preprocessing.features[0].std == pytest.approx(0.5, rel=1e-8)


def test_a_feature_of_one_value_has_no_deviation_and_is_noted(tmp_path: Path) -> None:
    data = shards(tmp_path, *(with_label(x=np.full(n, 0.1), c=["a"] * n) for n in (7, 11, 13)), groups=5)

    preprocessing, notes = learned(data)

    assert (preprocessing.features[0].mean, preprocessing.features[0].std) == (pytest.approx(0.1), 0.0)
    assert notes == (
        'feature "x" has one value in all training rows where it is known',
        'feature "c" has one value in all training rows where it is known',
    )


def test_statistics_leave_out_what_is_missing_or_infinite(tmp_path: Path) -> None:
    column = pa.array([1.0, None, np.nan, np.inf, 3.0, -np.inf])

    preprocessing, notes = learned(shards(tmp_path, with_label(x=column)))

    assert (preprocessing.features[0].mean, preprocessing.features[0].std) == (2.0, 1.0)
    assert notes == ('feature "x" is infinite in 2 training rows',)


def test_what_float32_does_not_hold_is_noted(tmp_path: Path) -> None:
    table = with_label(key=pa.array([1 << 24, (1 << 24) + 1, -(1 << 40), None]), huge=[1e300, 1.0, 2.0, 3.0])

    _, notes = learned(shards(tmp_path, table))

    assert notes == tuple(
        f'feature "{name}" is greater than what float32 holds exactly in {count} training rows: '
        "it is rounded, or the greatest float32 stands for it"
        for name, count in [("key", 2), ("huge", 1)]
    )


# ------------------------------------------------------------------------------------------------ dictionaries


def test_the_dictionary_knows_the_training_part_only_and_the_order_of_shards_does_not_matter(
    tmp_path: Path,
) -> None:
    def only(*carriers: str) -> pa.Table:
        return with_label(carrier=pa.array([carriers[n % len(carriers)] for n in range(30)]))

    forth = shards(tmp_path / "a", only("UA"), only("B6", "AA"))
    back = shards(tmp_path / "b", only("B6", "AA"), only("UA"))

    assert learned(forth)[0].features[0].categories == ("AA", "B6", "UA")
    assert learned(forth)[0].digest == learned(back)[0].digest


def test_shards_with_dictionaries_of_their_own_share_one(tmp_path: Path) -> None:
    first = with_label(carrier=pa.array(["UA", "AA"] * 4).dictionary_encode())
    second = with_label(carrier=pa.array(["B6", None, "UA", "AA"] * 2).dictionary_encode())
    plain = with_label(carrier=pa.array(["DL"] * 8))
    data = shards(tmp_path, first, second, plain)

    preprocessing, _ = learned(data)

    assert preprocessing.features[0].categories == ("AA", "B6", "DL", "UA")
    codes = [preprocessing.matrix(pq.read_table(path))[:4, 0].tolist() for path in data.files("train")]
    assert codes[0] == [3.0, 0.0, 3.0, 0.0]
    np.testing.assert_array_equal(codes[1], [1.0, np.nan, 3.0, 0.0])
    assert codes[2] == [2.0] * 4


# ------------------------------------------------------------------------------------------------ sequences


def test_a_sequence_is_as_long_as_its_longest_list_in_training_and_its_elements_are_described(
    tmp_path: Path,
) -> None:
    first = with_label(legs=pa.array([[1.0, 3.0], None, [], [None, 5.0]]))
    second = with_label(legs=pa.array([[7.0, np.nan, 9.0]]))

    preprocessing, notes = learned(shards(tmp_path, first, second))

    [legs] = preprocessing.features
    assert (legs.kind, legs.length) == ("number", 3)
    assert (legs.mean, legs.std) == (5.0, pytest.approx(np.std([1, 3, 5, 7, 9])))
    assert notes == ()
    assert preprocessing.columns == ("legs[0]", "legs[1]", "legs[2]", "legs.length")


def test_lists_of_strings_share_one_dictionary(tmp_path: Path) -> None:
    first = with_label(places=pa.array([["JFK"], None]))
    second = with_label(
        places=pa.ListArray.from_arrays([0, 1, 3], pa.array(["LGA", "EWR", None]).dictionary_encode())
    )

    preprocessing, _ = learned(shards(tmp_path, first, second))

    assert preprocessing.features[0].categories == ("EWR", "JFK", "LGA")
    assert preprocessing.features[0].length == 2


def test_lists_that_are_all_null_or_empty_leave_room_for_one_element(tmp_path: Path) -> None:
    data = shards(tmp_path, with_label(legs=pa.array([[], None], pa.list_(pa.float64()))))

    preprocessing, notes = learned(data)

    assert preprocessing.features[0].length == 1
    assert notes == ('feature "legs" is null in all 2 training rows',)


def test_a_list_too_long_to_be_a_sequence_is_refused(tmp_path: Path) -> None:
    data = shards(tmp_path, with_label(legs=pa.array([list(range(2000)), []])))

    with pytest.raises(TrainError, match=r'feature "legs" has a list of 2,000 elements.*last\(n\)'):
        learned(data)


def test_a_trainer_that_reads_no_lists_refuses_them_by_default(tmp_path: Path) -> None:
    data = shards(tmp_path, with_label(legs=pa.array([["a"], []])))

    with pytest.raises(TrainError, match='feature "legs" is of type list<element: string>'):
        learned(data, sequences=False)


# ------------------------------------------------------------------------------------------------ bad input


def test_an_empty_shard_changes_nothing(tmp_path: Path) -> None:
    rows = with_label(x=pa.array([1.0, 2.0]), c=pa.array(["a", "b"]))
    # Writers that infer types call a column without rows null.
    empty = pa.table({"x": pa.nulls(0), "c": pa.nulls(0), "label": pa.nulls(0)})

    with_empty = learned(shards(tmp_path / "a", empty, rows, rows.slice(0, 0)))
    without = learned(shards(tmp_path / "b", rows))

    assert with_empty == without


def test_a_feature_of_two_types_is_refused_with_the_shard(tmp_path: Path) -> None:
    number, text = with_label(x=[1.0, 2.0]), with_label(x=["1", "2"])
    listed = with_label(x=pa.array([[1.0], [2.0]]))

    for second, said in [(text, "string"), (listed, "list")]:
        data = shards(tmp_path, number, second)
        with pytest.raises(TrainError, match=rf'1\.parquet: feature "x" is {said}.* here and double'):
            learned(data)


def test_a_feature_that_is_null_in_one_shard_takes_the_type_of_the_others(tmp_path: Path) -> None:
    null = pa.table({"x": pa.nulls(2), "legs": pa.nulls(2), "label": [0, 1]})
    rows = with_label(x=["a", "b"], legs=pa.array([[1.0], [2.0, 3.0]]))

    preprocessing, _ = learned(shards(tmp_path, null, rows, null))

    assert [(one.kind, one.type) for one in preprocessing.features] == [
        ("category", "string"),
        ("number", "list<element: double>"),
    ]
    assert preprocessing.matrix(null).tolist()[0][-1] == 0.0


def test_a_key_is_no_category(tmp_path: Path) -> None:
    table = with_label(tail=[f"N{n}" for n in range(70_000)])

    with pytest.raises(TrainError, match=r'feature "tail" has .* different strings.*looks like a key'):
        learned(shards(tmp_path, table, groups=100_000))


def test_a_column_that_is_not_there_is_named_with_the_shard(tmp_path: Path) -> None:
    data = shards(tmp_path, with_label(delay=[1.0, 2.0]))

    with pytest.raises(TrainError, match=r'0\.parquet: there is no column "weight"'):
        survey(data, parts=["train"], further=["weight"])


def test_a_weight_or_label_must_be_a_number(tmp_path: Path) -> None:
    data = shards(tmp_path, with_label(delay=[1.0, 2.0], weight=["a", "b"]))
    with pytest.raises(TrainError, match=r'0\.parquet: column "weight" is of type string.*a number'):
        survey(data, parts=["train"], further=["weight"])

    times = pa.array([1, 2], pa.timestamp("us", "UTC"))
    labelled = shards(tmp_path, pa.table({"delay": [1.0, 2.0], "label": times}))
    with pytest.raises(TrainError, match=r'label "label" is of type timestamp'):
        survey(labelled, parts=["train"])


def test_without_a_label_none_is_looked_for(tmp_path: Path) -> None:
    data = shards(tmp_path, pa.table({"x": [1.0, 2.0, 3.0]}))

    [profile] = survey(data, parts=["train"], labelled=False)["train"]

    assert profile.label == LabelProfile()
    assert sum(piece.rows for piece in pieces([profile])) == 3
    assert profile.columns["x"].mean == 2.0


# ------------------------------------------------------------------------------------------------ labels, weights


def seen(*values: object) -> LabelProfile:
    return LabelProfile().seeing(pa.chunked_array([pa.array(values)]))


def test_a_label_is_counted_by_value_over_all_shards(tmp_path: Path) -> None:
    data = shards(tmp_path, pa.table({"label": [0, 2, 2]}), pa.table({"label": [2, 1, None]}), groups=2)

    joined = merge_further(
        [profile_shard(one, "label", (), with_features=False) for one in data.files("train")]
    )

    assert joined == LabelProfile(6, 1, 0, 1, 1, 0.0, 2.0, {0.0: 1, 1.0: 1, 2.0: 3})


def test_a_label_of_many_values_is_not_counted() -> None:
    many = LabelProfile().seeing(pa.chunked_array([pa.array(np.arange(300.0))]))

    assert many.counts is None
    assert many.seeing(pa.chunked_array([[1.0]])).counts is None
    assert (many.least, many.greatest) == (0.0, 299.0)


@pytest.mark.parametrize(
    ("label", "classes", "said"),
    [
        (seen(0, 1, 3), 3, r"has the value 3\. Expected a class, 0 to 2"),
        (seen(0.5, 1.0), 3, r"has the value 0\.5"),
        (seen(-1, 1), 3, r"has the value -1"),
        (seen(*range(300)), 300, "has more than 256 values"),
        (seen(2, 2, 2), 3, r"is 2 in every row\. Expected more than one class"),
        (seen(1, None), 3, "is null or NaN 1 times"),
        (LabelProfile(), 3, "has no rows"),
    ],
)
def test_a_label_that_is_not_a_class_is_refused(label: LabelProfile, classes: int, said: str) -> None:
    with pytest.raises(TrainError, match=said):
        check_label("train", "kind", label, classes=classes)


def test_a_label_of_classes_need_not_have_all_of_them() -> None:
    check_label("validate", "kind", seen(0, 2, 2.0), classes=3)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (seen(0, 1, 2), "has 1 values other than 0 and 1"),
        (seen(True, True), r"has no negative .* all 2 are 1"),
        (seen(0.0), r"has no positive .* all 1 are 0"),
        (seen(0.0, 1.0, np.inf), "infinite 1 times"),
    ],
)
def test_a_label_that_is_not_binary_is_refused(label: LabelProfile, said: str) -> None:
    with pytest.raises(TrainError, match=said):
        check_label("train", "late", label, binary=True)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (seen(1.0, None), "is null or NaN 1 times"),
        (seen(1.0, np.inf), "infinite 1 times"),
        (seen(1.0, -2.0), "is -2 somewhere"),
        (seen(0.0, 0.0), "is 0 in every row"),
    ],
)
def test_weights_that_weigh_nothing_are_refused(weights: LabelProfile, said: str) -> None:
    with pytest.raises(TrainError, match=f'weight "w" in the part "train".*{said}'):
        check_weights("train", "w", weights)
    check_weights("train", "w", seen(0.0, 2.5))


# ------------------------------------------------------------------------------------------------ where it runs


def test_workers_see_what_this_process_sees(tmp_path: Path) -> None:
    data = training_set(tmp_path / "d")
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        assert survey(data, client=client) == survey(data)
        with pytest.raises(TrainError, match='there is no column "wieght"'):
            survey(data, client=client, further=["wieght"])
