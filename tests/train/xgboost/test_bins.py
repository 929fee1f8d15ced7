"""Bins: edges of a small part and of a sample of a greater one, and rows in files that equal rows in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost
from distributed import Client

from mlflow_core.spec.trainer import XGBoost
from mlflow_core.train.data.matrix import StoredMatrix, build_matrix
from mlflow_core.train.data.profile import merge, profile_shard
from mlflow_core.train.evaluation.metrics import measure
from mlflow_core.train.xgboost import bins
from mlflow_core.train.xgboost.batches import Batches, Rows
from mlflow_core.train.xgboost.bins import Binning
from mlflow_core.train.xgboost.columns import Columns
from tests.train.kept import Kept
from tests.train.made import fit, write
from tests.train.xgboost.rows import FEATURES, column, frame, training_set


def _binning(data: Any, folder: Path, label: str = "binary") -> tuple[Binning, StoredMatrix]:
    found = [profile_shard(path, label, FEATURES, with_features=True) for path in data.files("train")]
    preprocessing, _, _ = merge(found, FEATURES)
    columns = Columns(label)
    matrix = build_matrix(data, "train", preprocessing, columns.names, folder / "cache", seed=None)
    return Binning(preprocessing, columns, max_bin=32, threads=1), matrix


def test_edges_of_all_rows_are_those_of_plain_xgboost(tmp_path: Path) -> None:
    data = training_set(tmp_path, "binary", rows=900)
    rows = data.read("train")
    plain = xgboost.QuantileDMatrix(frame(rows), column("binary")(rows), enable_categorical=True, max_bin=32)

    binning, matrix = _binning(data, tmp_path)
    edges = binning.edges(matrix)
    binned = binning.binned(Rows(matrix, 0, matrix.rows), Rows(matrix, 0, 10), edges)

    for ours in (edges, binned.train):
        for one, other in zip(ours.get_quantile_cut(), plain.get_quantile_cut(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_edges_of_a_sample_are_near_those_of_all_rows_and_know_every_category(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered = pa.table({
        "one": np.arange(6000) / 6000, "two": np.arange(6000) % 7, "flag": [False] * 6000,
        "kind": ["a"] * 5999 + ["d"], "three": np.ones(6000), "binary": np.arange(6000) % 2,
    })  # fmt: skip
    data = write(
        tmp_path,
        {"train": [ordered], "validate": [ordered], "test": [ordered]},
        row_group_size=100,
        label="binary",
        features=FEATURES,
    )
    binning, matrix = _binning(data, tmp_path)
    whole = binning.edges(matrix).get_quantile_cut()

    monkeypatch.setattr(bins, "SAMPLE_ROWS", 500)
    sampled = binning.edges(matrix).get_quantile_cut()

    monkeypatch.setattr(bins, "_DRAWN_BYTES", 1)  # one feature after the other
    for one, other in zip(binning.edges(matrix).get_quantile_cut(), sampled, strict=True):
        np.testing.assert_array_equal(one, other)
    of_one = [cut[1][cut[0][0] : cut[0][1]] for cut in (whole, sampled)]
    assert len(of_one[0]) == len(of_one[1])
    assert np.abs(of_one[0] - of_one[1])[:-1].max() < 0.04  # a bin is 0.03 wide
    assert sampled[0][4] - sampled[0][3] == whole[0][4] - whole[0][3]  # bins of "kind"


def test_rows_in_files_learn_what_rows_in_memory_learn_and_leave_no_file(
    tmp_path: Path, client: Client
) -> None:
    data = training_set(tmp_path / "data", "binary", rows=3000)
    trainer = XGBoost(rounds=15, max_depth=4, metric="auc", subsample=0.8, memory="in_memory")
    files = trainer.model_copy(update={"memory": "external"})
    test = data.read("test")
    kept = Kept()

    memory = fit(trainer, data, workdir=tmp_path / "memory").predict(test)
    here = fit(files, data, workdir=tmp_path / "here", recorder=kept).predict(test)
    again = fit(files, data, workdir=tmp_path / "again").predict(test)
    two = fit(files.model_copy(update={"workers": 2}), data, workdir=tmp_path / "two", client=client).predict(
        test
    )

    assert kept.seen["gang.external"] is True
    np.testing.assert_array_equal(here, again)
    y = column("binary")(test)
    aucs = [measure("auc", y, one) for one in (memory, here, two)]
    print(f"AUC {aucs}")
    assert max(aucs) - min(aucs) < 0.005
    folders = client.run(
        lambda dask_worker: [str(p) for p in Path(dask_worker.local_directory).glob("mlcore-bins-*")]
    )
    assert not any(folders.values())
    assert not any(
        (tmp_path / one).exists() and list((tmp_path / one).iterdir()) for one in ("here", "again", "two")
    )


@pytest.mark.parametrize("label", ["grade", "class", "lower", "amount"])
def test_other_objectives_train_from_files_too(tmp_path: Path, label: str) -> None:
    more: dict[str, Any] = {
        "grade": {"objective": "rank:ndcg", "group": "query"},
        "class": {"objective": "multi:softprob", "classes": 3, "class_weights": "balanced"},
        "lower": {"objective": "survival:aft", "bounds": ("lower", "upper")},
        "amount": {"objective": "reg:squarederror", "targets": ("other",), "weight": "heavy"},
    }[label]
    data = training_set(tmp_path / "data", label, rows=1500)
    trainer = XGBoost(rounds=8, max_depth=3, memory="in_memory", **more)

    memory = fit(trainer, data, workdir=tmp_path / "memory")
    files = fit(trainer.model_copy(update={"memory": "external"}), data, workdir=tmp_path / "files")

    metric = next(iter(memory.history))
    np.testing.assert_allclose(files.history[metric], memory.history[metric], rtol=0.02)


def test_batches_hand_over_every_row_once_with_its_own_columns(tmp_path: Path) -> None:
    data = training_set(tmp_path, "grade", rows=1100)
    columns = Columns("grade", "heavy", ("lower", "upper"), ("amount",))
    found = [profile_shard(path, "grade", FEATURES, with_features=True) for path in data.files("train")]
    preprocessing, _, _ = merge(found, FEATURES)
    matrix = build_matrix(data, "train", preprocessing, columns.names, tmp_path / "cache", seed=None)
    rows, table = Rows(matrix, 60, matrix.rows), data.read("train").slice(60)

    for size in (64, 500, 5000):
        batches, seen = Batches(rows, preprocessing, columns, size=size), []
        for _ in range(2):
            seen.clear()
            while batches.next(lambda into=seen, **batch: into.append(batch)):
                pass
            batches.reset()
        joined = {
            name: np.concatenate([one[name] for one in seen]) for name in seen[0] if "feature" not in name
        }
        np.testing.assert_array_equal(joined["data"], preprocessing.matrix(table))
        np.testing.assert_allclose(
            joined["label"], np.column_stack([column("grade")(table), column("amount")(table)]), rtol=1e-6
        )
        np.testing.assert_allclose(joined["weight"], column("heavy")(table), rtol=1e-6)
        np.testing.assert_allclose(joined["label_upper_bound"], column("upper")(table), rtol=1e-6)
        assert {len(one["data"]) for one in seen[:-1]} <= {size}
