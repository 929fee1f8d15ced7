"""Rows shuffled once at write: every order equally likely, whatever the order of the shards, wherever it is built."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_core.train.data import matrix, scatter
from mlflow_core.train.data.matrix import build_matrix
from mlflow_core.train.data.preprocess import Feature, Preprocessing
from mlflow_core.train.data.scatter import GroupTask
from mlflow_core.train.data.shuffle import BlockOrder, batches
from mlflow_core.train.data.spread import spread
from mlflow_core.train.data.training_set import TrainingData
from tests.train.data.numbered import ROW, numbered, rows_of


@pytest.mark.usefixtures("small_buckets")
def test_the_batches_of_data_sorted_by_label_are_fair_samples(tmp_path: Path) -> None:
    data = numbered(tmp_path, 30_000, 30_000, groups=5000)
    stored = build_matrix(data, "train", ROW, ("label",), tmp_path / "cache")

    means = []
    for epoch in range(2):
        order = BlockOrder(stored.rows, 32, seed=3, epoch=epoch)
        means += [batch[:, 2].mean() for batch in batches(stored.open(), order, 500)]

    # Batches drawn without replacement: each mean's deviation is known, and so is that of their variance.
    deviation = np.sqrt(0.25 / 500 * (1 - 500 / stored.rows))
    scores = (np.array(means) - 0.5) / deviation
    assert len(scores) == 240
    assert np.abs(scores).max() < 4.5
    assert abs(scores.std() - 1) < 5 / np.sqrt(2 * len(scores))


@pytest.mark.usefixtures("small_buckets")
def test_neighbours_in_the_matrix_come_from_anywhere(tmp_path: Path) -> None:
    rows = 20_000
    stored = build_matrix(numbered(tmp_path, rows, groups=2500), "train", ROW, (), tmp_path / "cache")

    order = np.array(rows_of(stored))

    # Of a random order, |difference of neighbours| / n has mean 1/3 and variance 1/18; where a row is tells nothing.
    apart = np.abs(np.diff(order)) / rows
    assert abs(apart.mean() - 1 / 3) < 5 * np.sqrt(1 / 18 / rows)
    assert abs(np.corrcoef(order, np.arange(rows))[0, 1]) < 5 / np.sqrt(rows)
    # Each tenth of the matrix has its share of each tenth of the shards: 100 counts of about 200.
    counts = np.histogram2d(order, np.arange(rows), bins=10)[0]
    assert ((counts - rows / 100) ** 2 / (rows / 100)).sum() < 81 + 5 * np.sqrt(2 * 81)


def test_every_order_is_equally_likely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scatter, "_BUCKET_BYTES", 16)  # two rows of one column
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(2400):
        starts = scatter.scattering([2, 2], 1, seed)
        order = _scattered_in_memory([2, 2], starts, seed)
        counts[order] = counts.get(order, 0) + 1

    # 24 orders of 4 rows, 100 times each: chi-squared of 23 degrees of freedom, 5 sigma.
    assert len(counts) == 24
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 23 + 5 * np.sqrt(2 * 23)


def _scattered_in_memory(groups: list[int], where: scatter.Scattering, seed: int) -> tuple[int, ...]:
    """The order that both rounds make of the rows 0, 1, 2, ..., without any file."""
    buckets = len(where.bounds) - 1
    first = np.full(sum(groups), -1)
    at = 0
    for number, rows in enumerate(groups):
        cursor = where.starts[number].copy()
        for bucket in scatter.drawn_buckets(rows, number, buckets, seed):
            first[cursor[bucket]] = at
            cursor[bucket] += 1
            at += 1
    out = [
        first[start:stop][scatter.bucket_order(stop - start, number, seed)]
        for number, (start, stop) in enumerate(zip(where.bounds[:-1], where.bounds[1:], strict=True))
    ]
    return tuple(np.concatenate(out).tolist())


@pytest.mark.usefixtures("small_buckets")
def test_the_order_depends_on_the_seed_and_not_on_where_it_is_built(tmp_path: Path, client: Client) -> None:
    data = numbered(tmp_path, 900, 1300, groups=200)

    here = build_matrix(data, "train", ROW, ("label",), tmp_path / "here")
    there = build_matrix(data, "train", ROW, ("label",), tmp_path / "there", client=client)
    other = build_matrix(data, "train", ROW, ("label",), tmp_path / "here", seed=1)

    assert there.path.read_bytes() == here.path.read_bytes()
    assert there.digest == here.digest
    assert other.name != here.name
    assert rows_of(other) != rows_of(here)


@settings(max_examples=30)
@given(
    groups=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    width=st.integers(1, 5),
    seed=st.integers(0, 3),
)
def test_the_places_of_scattered_rows_fill_the_file_without_overlap(
    groups: list[int], width: int, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scatter, "_BUCKET_BYTES", 100)
        where = scatter.scattering(groups, width, seed)
        buckets = len(where.bounds) - 1
        taken = []
        for number, rows in enumerate(groups):
            counts = np.bincount(scatter.drawn_buckets(rows, number, buckets, seed), minlength=buckets)
            for start, count in zip(where.starts[number], counts, strict=True):
                taken += range(start, start + count)

    assert sorted(taken) == list(range(sum(groups)))
    assert where.bounds[-1] == sum(groups)


def test_a_dictionary_does_not_travel_with_each_row_group(
    tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"gate {number:06d} of some airport" for number in range(20_000)]
    random = np.random.default_rng(5)
    table = pa.table({"gate": random.choice(names, 3000), "label": random.random(3000) < 0.5})
    path = tmp_path / "0.parquet"
    pq.write_table(table, path, row_group_size=100)
    data = TrainingData({"train": (path,)}, label="label", features=("gate",))
    preprocessing = Preprocessing((Feature("gate", "category", "string", tuple(names)),))
    sizes: list[int] = []

    def weighed(work: Any, pieces: Sequence[Any], *more: Any) -> list[Any]:
        sizes.extend(len(pickle.dumps((work, piece))) for piece in pieces if isinstance(piece, GroupTask))
        return spread(work, pieces, *more)

    monkeypatch.setattr(matrix, "spread", weighed)
    stored = build_matrix(
        data, "train", preprocessing, ("label",), tmp_path / "cache", client=client, seed=None
    )

    assert len(sizes) == 30
    assert max(sizes) < 2_000 < len(pickle.dumps(preprocessing)) / 100
    np.testing.assert_array_equal(stored.open()[:, :1], preprocessing.matrix(table))
    assert {one.name for one in stored.path.parent.iterdir()} == {"entry.json", "matrix.f32"}
