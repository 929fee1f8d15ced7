"""Folds in time: held to an oracle that looks at every row for every fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_core.errors import TrainError
from mlflow_core.spec.search import CrossValidation
from mlflow_core.train import TrainContext
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.search import cross_validation
from mlflow_core.train.search.cross_validation import GRID, cut_folds
from tests.oracle import folds as oracle
from tests.train.made import table, write

DAY = 86_400_000_000


def _timed(times: Sequence[int], first: int = 0, unit: str = "us") -> pa.Table:
    stamps = pa.array(np.array(times, dtype=np.int64), pa.timestamp("us", "UTC"))
    return pa.table(
        {
            "event_timestamp": stamps.cast(pa.timestamp(unit, "UTC")),
            "row": np.arange(first, first + len(times)),
            "label": np.arange(len(times)) % 2,
        }
    )


def _set(folder: Path, shards: Sequence[Sequence[int]], **more: object) -> TrainingData:
    tables, first = [], 0
    for times in shards:
        tables.append(_timed(times, first, **more))
        first += len(times)
    rest = [_timed([0, 1])]
    return write(
        folder,
        {"train": tables, "validate": rest, "test": rest},
        row_group_size=7,
        features=("row",),
        request=(),
    )


def _rows(data: TrainingData, part: str) -> list[int]:
    return sorted(data.read(part).column("row").to_pylist())


@pytest.mark.parametrize("embargo", ["0s", "2h", "30d"])
@pytest.mark.parametrize("window", [None, "5d"])
@pytest.mark.parametrize("ordered", [True, False])
def test_each_fold_has_the_rows_that_the_oracle_gives_it(
    tmp_path: Path, embargo: str, window: str | None, ordered: bool
) -> None:
    random = np.random.default_rng(5)
    times = random.integers(0, 200 * DAY, 400)
    times[:60] = times[0]  # many rows of one time are never divided
    times = np.sort(times) if ordered else times
    validation = CrossValidation(folds=4, embargo=embargo, window=window)
    data = _set(tmp_path / "data", [times[:150], times[150:160], times[160:]])

    cut = cut_folds(data, validation, TrainContext(workdir=tmp_path / "work"))

    everything = times.tolist()
    starts = oracle.instants(everything, 4, GRID)
    expected = oracle.folds(
        everything, starts, int(validation.embargo), int(validation.window) if validation.window else None
    )
    assert [(_rows(fold, "train"), _rows(fold, "validate")) for fold in cut] == expected
    for fold in cut:
        assert fold.read("train").schema == data.read("train").schema
        assert (fold.label, fold.features) == (data.label, data.features)


@settings(max_examples=40, deadline=None)
@given(
    times=st.lists(st.integers(-50, 50), min_size=3, max_size=60),
    folds=st.integers(2, 4),
    embargo=st.integers(0, 20),
    window=st.none() | st.integers(1, 40),
)
def test_whatever_the_times_the_folds_are_the_oracles_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, times: list[int], folds: int, embargo: int, window: int | None
) -> None:
    folder = tmp_path_factory.mktemp("folds")
    validation = CrossValidation(
        folds=folds, embargo=f"{embargo}us", window=f"{window}us" if window else None
    )
    data = _set(folder / "data", [times[: len(times) // 2], times[len(times) // 2 :]])

    try:
        cut = cut_folds(data, validation, TrainContext(workdir=folder / "work"))
    except TrainError:
        starts = oracle.instants(times, folds, GRID)
        expected = oracle.folds(times, starts, embargo, window)
        assert len(set(starts)) < folds or any(not train or not validate for train, validate in expected)
        return

    expected = oracle.folds(times, oracle.instants(times, folds, GRID), embargo, window)
    assert [(_rows(fold, "train"), _rows(fold, "validate")) for fold in cut] == expected


def test_rows_are_written_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(
        tmp_path / "data",
        {p: [table(600, n), table(500, n + 9)] for n, p in enumerate(("train", "validate", "test"))},
    )
    context = TrainContext(workdir=tmp_path / "work")
    first = cut_folds(data, CrossValidation(folds=3, embargo="1d"), context)
    written = {path for fold in first for part in fold.shards.values() for path in part}
    stamps = {path: path.stat().st_mtime_ns for path in written}

    again = cut_folds(data, CrossValidation(folds=3, embargo="1d"), context)

    assert [fold.shards for fold in again] == [fold.shards for fold in first]
    assert {path: path.stat().st_mtime_ns for path in written} == stamps
    kept = list((tmp_path / "work" / "folds").rglob("*.parquet"))
    assert sum(pa.parquet.read_metadata(path).num_rows for path in kept) == 1100
    other = cut_folds(data, CrossValidation(folds=2), context)
    assert {path.parent for path in other[0].shards["train"]} != {
        path.parent for path in first[0].shards["train"]
    }


def test_times_of_other_units_are_cut_alike(tmp_path: Path) -> None:
    times = (np.arange(100) * DAY).tolist()
    validation, context = CrossValidation(folds=3), TrainContext(workdir=tmp_path / "work")

    in_us, in_ns, in_ms = (
        cut_folds(_set(tmp_path / unit, [times], unit=unit), validation, context)
        for unit in ("us", "ns", "ms")
    )

    rows = [
        [(_rows(fold, "train"), _rows(fold, "validate")) for fold in cut] for cut in (in_us, in_ns, in_ms)
    ]
    assert rows[0] == rows[1] == rows[2]


@pytest.mark.parametrize(
    ("times", "validation", "message"),
    [
        ([5] * 40, CrossValidation(folds=2), "40 rows have too few different times for 2 folds"),
        ([1, 2], CrossValidation(folds=3), "2 rows have too few different times for 3 folds"),
        (range(100), CrossValidation(folds=2, embargo="1d"), "fold 1 has no rows to train with: it trains before 1969-12-31"),
    ],
)  # fmt: skip
def test_folds_that_cannot_be_cut_are_refused(
    tmp_path: Path, times: Sequence[int], validation: CrossValidation, message: str
) -> None:
    with pytest.raises(TrainError, match=message):
        cut_folds(_set(tmp_path / "data", [list(times)]), validation, TrainContext(workdir=tmp_path / "work"))


def test_a_time_that_is_missing_or_no_time_is_refused(tmp_path: Path) -> None:
    context = TrainContext(workdir=tmp_path / "work")
    data = _set(tmp_path / "data", [range(30)])
    holed = data.read("train").set_column(
        0, "event_timestamp", pa.array([None, *range(29)], pa.timestamp("us", "UTC"))
    )

    with pytest.raises(TrainError, match='the time "event_timestamp" is null in 1 rows'):
        cut_folds(
            write(
                tmp_path / "holed",
                {"train": [holed], "validate": [holed], "test": [holed]},
                features=("row",),
            ),
            CrossValidation(),
            context,
        )
    with pytest.raises(TrainError, match='there is no column "query_time"'):
        cut_folds(
            TrainingData(shards=data.shards, label="label", features=("row",), time_column="query_time"),
            CrossValidation(),
            context,
        )
    with pytest.raises(TrainError, match="the time column is of type int64"):
        cut_folds(
            TrainingData(shards=data.shards, label="label", features=("row",), time_column="row"),
            CrossValidation(),
            context,
        )


def test_a_cut_that_was_interrupted_leaves_nothing_that_is_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _set(tmp_path / "data", [range(0, 50), range(50, 100)])
    context = TrainContext(workdir=tmp_path / "work")
    expected = [
        (_rows(fold, "train"), _rows(fold, "validate"))
        for fold in cut_folds(data, CrossValidation(folds=2), TrainContext(workdir=tmp_path / "whole"))
    ]

    class Interrupted(cross_validation._Segment):
        def __call__(self, given: pa.Table) -> np.ndarray:
            if given.column("row")[0].as_py() >= 50:
                raise KeyboardInterrupt
            return super().__call__(given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cross_validation, "_Segment", Interrupted)
        cut_folds(data, CrossValidation(folds=2), context)

    assert list((tmp_path / "work" / "folds").iterdir()) == []
    cut = cut_folds(data, CrossValidation(folds=2), context)
    assert [(_rows(fold, "train"), _rows(fold, "validate")) for fold in cut] == expected
