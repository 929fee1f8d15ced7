"""Queries are found where a plain loop finds them, and no share of the rows splits one."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_core.errors import TrainError
from mlflow_core.train.data.matrix import StoredMatrix
from mlflow_core.train.xgboost.batches import Rows
from mlflow_core.train.xgboost.queries import boundaries, query_starts, runs_of
from mlflow_core.train.xgboost.rank import Part

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=30)


def _starts(sizes: list[int]) -> np.ndarray:
    return np.cumsum([0, *sizes[:-1]]).astype(np.int64)


def _matrix(rows: int) -> StoredMatrix:
    return StoredMatrix(Path("none"), rows, ("one",), 1, "")


@given(sizes=SIZES, data=st.data())
def test_shares_are_whole_queries_and_no_rank_has_none(sizes: list[int], data: st.DataObject) -> None:
    ranks = data.draw(st.integers(1, len(sizes)))
    starts, rows = _starts(sizes), sum(sizes)

    cuts = boundaries(starts, rows, ranks)

    assert (cuts[0], cuts[-1], len(cuts)) == (0, rows, ranks + 1)
    assert set(cuts) <= {*starts.tolist(), rows}
    assert all(a < b for a, b in pairwise(cuts))


@given(sizes=SIZES, size=st.integers(1, 60), first=st.integers(0, 50))
def test_batches_end_where_a_query_ends_and_are_no_greater_than_they_must(
    sizes: list[int], size: int, first: int
) -> None:
    total = sum(sizes)
    rows = Rows(_matrix(first + total), first, first + total, _starts(sizes))

    ends = rows.ends(size)

    query_ends = np.cumsum(sizes).tolist()
    assert ends[-1] == total
    assert set(ends) <= set(query_ends)
    for start, end in pairwise((0, *ends)):
        inside = [one for one in query_ends if start < one <= end]
        assert end - start <= size or len(inside) == 1


@given(sizes=SIZES, ranks=st.integers(1, 4))
def test_the_ranks_together_have_every_row_and_query_once(sizes: list[int], ranks: int) -> None:
    ranks, total = min(ranks, len(sizes)), sum(sizes)
    part = Part(_matrix(total), _starts(sizes))

    shares = [part.share(index, ranks) for index in range(ranks)]

    assert [share.first for share in shares] == [0, *(share.last for share in shares[:-1])]
    assert shares[-1].last == total
    found = [np.diff(np.append(share.queries, share.count)).tolist() for share in shares]
    assert [size for own in found for size in own] == sizes


def _shards(folder: Path, shards: list[list[object]]) -> list[Path]:
    paths = []
    for number, values in enumerate(shards):
        paths.append(folder / f"train-{number}.parquet")
        pq.write_table(pa.table({"query": pa.array(values, pa.string())}), paths[-1], row_group_size=3)
    return paths


def test_a_query_may_go_on_in_the_next_row_group_and_shard(tmp_path: Path) -> None:
    shards = [["a", "a", "b", "b", "b"], [], ["b"], ["b", "c"], ["d"]]

    runs = [runs_of(path, "query") for path in _shards(tmp_path, shards)]

    assert query_starts("train", "query", runs).tolist() == [0, 2, 7, 8]


@pytest.mark.parametrize("shards", [[["a", "b", "a"], ["c"]], [["a", "b"], ["c"], ["c", "a"]]])
def test_a_query_that_comes_back_is_named_with_its_shard(tmp_path: Path, shards: list[list[object]]) -> None:
    runs = [runs_of(path, "query") for path in _shards(tmp_path, shards)]

    with pytest.raises(
        TrainError, match=rf"train-{0 if len(shards) == 2 else 2}.parquet: .* comes back to 'a'"
    ):
        query_starts("train", "query", runs)
