"""Where a row of a stored matrix came from is found without anything stored for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_core.errors import TrainError
from mlflow_core.train.data.matrix import build_matrix
from mlflow_core.train.data.origin import origins
from tests.train.data.numbered import ROW, numbered, rows_of


@pytest.mark.usefixtures("small_buckets")
@pytest.mark.parametrize("part", ["train", "test"])
def test_each_row_is_traced_to_its_shard_and_its_number_there(tmp_path: Path, part: str) -> None:
    sizes = (420, 0, 1, 777)
    data = numbered(tmp_path, *sizes, groups=100, part=part)
    stored = build_matrix(data, part, ROW, ("label",), tmp_path / "cache", seed=5)

    found = origins(stored, range(stored.rows), seed=5 if part == "train" else None)

    firsts = dict(zip(data.files(part), (0, 420, 420, 421), strict=True))
    assert [firsts[one.file] + one.row for one in found] == rows_of(stored)


def test_of_a_matrix_that_is_gone_nothing_is_told(tmp_path: Path) -> None:
    stored = build_matrix(numbered(tmp_path, 10), "train", ROW, (), tmp_path / "cache")
    stored.path.unlink()

    with pytest.raises(TrainError, match="there is no such matrix any more"):
        origins(stored, [0], seed=0)
