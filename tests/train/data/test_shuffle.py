"""The order of an epoch: each row once, the same batch for any number of ranks, from any step on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlflow_core.train.data import shuffle
from mlflow_core.train.data.shuffle import (
    ORDER_FORMAT,
    BlockOrder,
    batches,
    block_of,
    permutation,
    release,
    steps,
)
from tests.oracle.shuffle import epoch_rows, shares


def numbered(rows: int, width: int = 3) -> NDArray[np.float32]:
    """Rows that say which they are: row, -row, row / 2, ..."""
    return np.outer(np.arange(rows), [1.0, -1.0, 0.5][:width]).astype(np.float32)


@given(
    rows=st.integers(0, 120),
    block=st.integers(1, 40),
    batch_size=st.integers(1, 50),
    ranks=st.integers(1, 4),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 3),
    data=st.data(),
)
def test_each_rank_reads_its_share_of_each_batch_from_any_step_on(
    rows: int, block: int, batch_size: int, ranks: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    order = BlockOrder(rows, block, seed, epoch)
    start = data.draw(st.integers(0, steps(rows, batch_size)))
    expected = shares(epoch_rows(rows, block, order.blocks.tolist()), batch_size, ranks)

    for rank in range(ranks):
        read = list(batches(numbered(rows), order, batch_size, rank=rank, ranks=ranks, start=start))

        assert [batch[:, 0].astype(int).tolist() for batch in read] == [own[rank] for own in expected[start:]]
        assert all(np.array_equal(batch[:, 1], -batch[:, 0]) for batch in read)


@given(rows=st.integers(1, 200), block=st.integers(1, 40), batch_size=st.integers(1, 64))
def test_an_epoch_reads_each_row_exactly_once(rows: int, block: int, batch_size: int) -> None:
    order = BlockOrder(rows, block, seed=1, epoch=2)

    read = np.concatenate([batch[:, 0] for batch in batches(numbered(rows), order, batch_size)])

    assert sorted(read.astype(int).tolist()) == list(range(rows))


@given(rows=st.integers(1, 200), block=st.integers(1, 40), data=st.data())
def test_any_span_of_positions_can_be_read(rows: int, block: int, data: st.DataObject) -> None:
    order = BlockOrder(rows, block, seed=4, epoch=0)
    first = data.draw(st.integers(0, rows))
    last = data.draw(st.integers(first, rows))
    into = np.full((last - first, 2), -1.0, dtype=np.float32)

    found = order.take(numbered(rows, 2), first, last, into)

    assert found is into
    expected = epoch_rows(rows, block, order.blocks.tolist())[first:last]
    assert found[:, 0].astype(int).tolist() == expected


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_batch_of_a_step_is_the_same_for_any_number_of_ranks(ranks: int) -> None:
    matrix, order = numbered(1003), BlockOrder(1003, 16, seed=9, epoch=1)

    alone = list(batches(matrix, order, 64))
    together = zip(*(batches(matrix, order, 64, rank=r, ranks=ranks) for r in range(ranks)), strict=True)

    for own, parts in zip(alone, together, strict=True):
        np.testing.assert_array_equal(own, np.concatenate(parts))


def test_a_last_batch_of_fewer_rows_than_ranks_leaves_no_rank_a_step_behind() -> None:
    order = BlockOrder(9, 4, seed=0, epoch=0)

    sizes = [
        [len(batch) for batch in batches(numbered(9), order, 4, rank=rank, ranks=3)] for rank in range(3)
    ]

    assert sizes == [[1, 1, 0], [1, 1, 0], [2, 2, 1]]


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else() -> None:
    def read(seed: int, epoch: int) -> list[int]:
        return BlockOrder(10_000, 16, seed, epoch).blocks.tolist()

    assert read(1, 0) == read(1, 0)
    assert len({tuple(read(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_the_order_of_a_seed_stays_what_it_was() -> None:
    # A checkpoint says "step 4 of epoch 2": these numbers changing would change what a resumed training reads.
    assert BlockOrder(80, 10, seed=7, epoch=2).blocks.tolist() == ORDER_OF_SEED_7_EPOCH_2


ORDER_OF_SEED_7_EPOCH_2 = [7, 0, 3, 5, 6, 1, 4, 2]


def test_a_permutation_favours_no_place() -> None:
    counts = np.zeros((6, 6))
    for draw in range(6000):
        counts[np.arange(6), permutation(6, f"draw {draw}")] += 1

    # Each of 36 counts is 1000 +- 29; 5 sigma for one of them to be beyond it once in 50,000 suites.
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(6000 * 1 / 6 * 5 / 6)


def test_blocks_are_drawn_from_a_window_of_runs_from_anywhere() -> None:
    blocks = 40 * 2048
    orders = [BlockOrder(blocks, 1, seed=3, epoch=epoch).blocks for epoch in range(2)]

    for order in orders:
        assert sorted(order.tolist()) == list(range(blocks))
        for window in range(40):
            own = order[window * 2048 : (window + 1) * 2048]
            assert len(set((own // 32).tolist())) == 64
            assert abs(own.mean() / blocks - 0.5) < 5 * np.sqrt(1 / 12 / 64)
    first = [set((order[:2048] // 32).tolist()) for order in orders]
    assert len(first[0] & first[1]) < 12


def test_a_batch_can_be_written_to_without_harm_to_the_matrix() -> None:
    matrix = numbered(50)
    matrix.flags.writeable = False

    for batch in batches(matrix, BlockOrder(50, 8, 0, 0), 20):
        batch += 1

    np.testing.assert_array_equal(matrix, numbered(50))


@pytest.mark.parametrize("hold", [np.asarray, torch.from_numpy, memoryview, lambda batch: batch[1:]])
def test_a_batch_stays_what_it_is_as_long_as_somebody_holds_it(hold: Callable[[Any], Any]) -> None:
    order = BlockOrder(1003, 16, seed=9, epoch=1)

    held, said = [], []
    for batch in batches(numbered(1003), order, 64):
        held.append(hold(batch))
        said.append(held[-1].tolist())

    assert [one.tolist() for one in held] == said


def test_batches_that_nobody_holds_share_a_few_arrays() -> None:
    order = BlockOrder(1003, 16, seed=9, epoch=1)

    places = [batch.ctypes.data for batch in batches(numbered(1003), order, 64)]

    assert len(places) == 16
    assert len(set(places)) <= 3


def test_whoever_changes_the_order_gives_it_another_format() -> None:
    order = BlockOrder(700_000, 32, seed=3, epoch=1)

    digest = hashlib.sha256(order.blocks.astype("<i8").tobytes()).hexdigest()[:16]
    assert (ORDER_FORMAT, block_of(51), digest) == (2, 256, "aa73770ebd490f33")


def test_a_block_has_about_64_kib() -> None:
    assert block_of(51) == 256
    assert block_of(1) == 16384
    assert block_of(100_000) == 1


def test_reading_a_great_matrix_holds_little_of_it_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 64 MiB; a window is of 4 MiB, a run of 1 MiB
    rows, width = 1 << 18, 64
    monkeypatch.setattr(shuffle, "_RUN", 64)
    monkeypatch.setattr(shuffle, "_WINDOW", 256)
    np.outer(np.arange(rows), np.ones(width)).astype(np.float32).tofile(tmp_path / "m")
    matrix = np.asarray(np.memmap(tmp_path / "m", np.float32, mode="r", shape=(rows, width)))

    def read() -> tuple[int, float]:
        """The most of files that this process held while it read, in MiB, and the sum of the rows' numbers."""
        release(matrix)
        before, most, total = mapped(), 0, 0.0
        for batch in batches(matrix, BlockOrder(rows, 64, 1, 0), 4096):
            most = max(most, mapped() - before)
            total += float(batch[:, 0].sum(dtype=np.float64))
        return most, total

    all_of_it = read()
    monkeypatch.setattr(shuffle, "_KEPT_MAPPED", 1 << 20)
    little = read()

    assert all_of_it[0] > 60
    assert little[0] < 24
    assert all_of_it[1] == little[1] == rows * (rows - 1) / 2


def mapped() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("RssFile"))


def test_an_array_that_is_not_on_a_map_has_nothing_to_release() -> None:
    matrix = numbered(10)

    release(matrix)

    np.testing.assert_array_equal(matrix, numbered(10))
