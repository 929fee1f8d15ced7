"""Rows written apart: each once, in order, a bounded part of them in memory, and never waiting for workers without end."""

from __future__ import annotations

from pathlib import Path

import dask
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster

from mlflow_core.errors import TrainError
from mlflow_core.train.data import partition as module
from mlflow_core.train.data.partition import partition
from mlflow_core.train.data.spread import spread
from tests.train.made import FEATURES, table, training_set, write


def by_hour(rows: pa.Table) -> np.ndarray:
    hours = rows.column("hour").to_numpy()
    return np.where(hours == 5, -1, hours % 3)


def test_rows_keep_their_order_whenever_they_are_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = training_set(tmp_path / "data")
    everything = data.read("train")
    places = by_hour(everything)

    at_once = partition(data, "train", by_hour, tmp_path / "once", described="hours")
    monkeypatch.setattr(module, "_FLUSH_BYTES", 20_000)
    often = partition(data, "train", by_hour, tmp_path / "often", described="hours")

    assert sum(map(len, often.values())) > sum(map(len, at_once.values()))
    for cut in (at_once, often):
        assert sorted(cut) == [0, 1, 2]
        for place, paths in cut.items():
            rows = pa.concat_tables([pq.read_table(path) for path in paths])
            assert rows.equals(everything.filter(pa.array(places == place)))
    assert {path.suffix for path in (tmp_path / "often").rglob("*") if path.is_file()} == {".parquet"}
    assert set(FEATURES) < set(everything.column_names)


def test_shards_and_row_groups_without_rows_are_passed_over(tmp_path: Path) -> None:
    none, some = table(0, 1), table(300, 2)
    parts = {part: [none, some, none] for part in ("train", "validate", "test")}
    data = write(tmp_path / "data", parts)

    cut = partition(data, "train", by_hour, tmp_path / "cut", described="hours")

    rows = [pq.read_table(path) for paths in cut.values() for path in paths]
    assert sum(map(len, rows)) == int((by_hour(some) >= 0).sum())


def test_a_cluster_without_workers_is_waited_for_a_while_and_then_told() -> None:
    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": "0.4s"}),
        LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
        pytest.raises(TrainError, match=r"no worker that takes tasks for 0\.4 s.*Start workers"),
    ):
        spread(abs, [-1], client)
