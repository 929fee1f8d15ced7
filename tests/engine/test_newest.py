"""The newest observations: those a loop over events gives, labelled or not, and no more of them than asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mlflow_core as ml
from mlflow_core.engine.dataset.newest import Newest, newest_observations
from mlflow_core.errors import SourceError
from mlflow_core.plan.dataset import TIME_COLUMN, plan_dataset
from mlflow_core.sources import read_schema

HOUR = 3_600_000_000


def write(folder: Path, name: str, rows: list[tuple[int, str | None, int | None, bool]]) -> None:
    """Rows of hour, label, identity and whether it counts."""
    hours, labels, ids, counts = zip(*rows, strict=True)
    table = pa.table(
        {
            "key": pa.array([f"k{hour}" for hour in hours]),
            "time": pa.array([hour * HOUR for hour in hours], pa.timestamp("us", "UTC")),
            "label": pa.array(labels, pa.string()),
            "id": pa.array(ids, pa.int64()),
            "counts": pa.array(counts),
            "written": pa.array([ord(name) * HOUR] * len(rows), pa.timestamp("us", "UTC")),
        }
    )
    pq.write_table(table, folder / f"{name}.parquet")


def newest(
    folder: Path,
    hours: int,
    *,
    event_id: str | None = None,
    most: int = 1000,
    seed: int = 0,
    now: int = 10_000,
) -> Newest:
    more: dict[str, Any] = {} if event_id is None else {"event_id": event_id, "created": "written"}
    source = ml.ParquetSource("events", path="*.parquet", event_time="time", **more)
    view = ml.FeatureView("view", entity=ml.Entity("key"), source=source, features=["id"])
    data = ml.Dataset(
        features=ml.FeatureService("service", [view]),
        spine=ml.Spine(source, at="time - interval '30 minutes'", where="counts"),
        label=ml.Label("label = 'yes'"),
        split=ml.TimeSplit(train_until="1970-01-01T10:00", validate_until="1970-01-01T16:00"),
    )
    plan = plan_dataset(data, lambda one: read_schema(one, str(folder)))
    return newest_observations(plan, str(folder), hours * HOUR, now_us=now * HOUR, most=most, seed=seed)


def test_they_reach_back_from_the_newest_event_and_need_no_label(tmp_path: Path) -> None:
    write(tmp_path, "a", [(hour, "yes", hour, True) for hour in range(10)])
    write(
        tmp_path,
        "b",
        [(10, None, 10, True), (11, None, 11, False), (12, None, 12, True), (13, "no", 13, False)],
    )

    found = newest(tmp_path, 5)

    assert (found.rows, found.newest_us) == (3, 13 * HOUR)
    assert found.table["key"].to_pylist() == ["k9", "k10", "k12"]  # 8 is five hours before 13
    assert found.table[TIME_COLUMN].cast(pa.int64()).to_pylist() == [
        9.5 * HOUR - HOUR,
        9.5 * HOUR,
        11.5 * HOUR,
    ]


def test_an_event_counts_by_its_last_version_wherever_that_lies(tmp_path: Path) -> None:
    write(tmp_path, "a", [(1, "yes", 7, True), (2, "yes", 8, True)])
    write(tmp_path, "b", [(20, None, 7, True), (21, None, 9, True)])
    write(tmp_path, "c", [(3, None, 9, True)])

    found = newest(tmp_path, 6, event_id="id")

    assert (found.newest_us, found.table["key"].to_pylist()) == (20 * HOUR, ["k20"])


def test_what_the_statistics_prove_to_be_too_old_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, "a", [(hour, "yes", hour, True) for hour in range(8)])
    write(tmp_path, "b", [(hour, None, hour, True) for hour in range(8, 14)])
    old = tmp_path / "a.parquet"
    content = old.read_bytes()
    footer = int.from_bytes(content[-8:-4], "little") + 8
    old.write_bytes(content[:4] + bytes(len(content) - 4 - footer) + content[-footer:])

    assert newest(tmp_path, 5).rows == 5
    with pytest.raises(SourceError, match=r"a\.parquet"):
        newest(tmp_path, 7)


@pytest.mark.parametrize("seed", [0, 1])
def test_too_many_are_sampled_down_and_each_time_to_the_same_ones(tmp_path: Path, seed: int) -> None:
    write(tmp_path, "a", [(hour, None, hour, hour % 2 == 0) for hour in range(400)])

    found = newest(tmp_path, 300, most=50, seed=seed)
    keys = found.table["key"].to_pylist()

    assert (found.rows, len(keys), len(set(keys))) == (150, 50, 50)
    assert all(int(key[1:]) >= 100 and int(key[1:]) % 2 == 0 for key in keys)
    assert newest(tmp_path, 300, most=50, seed=seed).table.equals(found.table)
    assert newest(tmp_path, 300, most=50, seed=seed + 1).table["key"].to_pylist() != keys


def test_where_no_event_makes_a_row_there_are_none(tmp_path: Path) -> None:
    write(tmp_path, "a", [(1, "yes", 1, True), (9, None, 2, False)])

    found = newest(tmp_path, 2)

    assert (found.rows, found.table.num_rows, found.newest_us) == (0, 0, 9 * HOUR)


@pytest.mark.parametrize("event_id", [None, "id"])
def test_an_event_of_a_clock_that_was_wrong_hides_none(tmp_path: Path, event_id: str | None) -> None:
    write(tmp_path, "a", [(hour, "yes", hour, True) for hour in range(20)])
    write(tmp_path, "b", [(1_000_000, "yes", 99, True)])

    found = newest(tmp_path, 3, event_id=event_id, now=19)

    assert (found.rows, found.newest_us) == (3, 19 * HOUR)
    assert newest(tmp_path, 3, event_id=event_id, now=-1).rows == 0
