"""Pieces are read as they are, whatever the size of their row groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.train.data.pieces import Piece, read_piece, read_tables


@pytest.mark.parametrize("rows", [70_000, 170_000], ids=["at once", "some at a time"])
def test_a_row_group_is_read_whole_and_in_order_in_tables_of_bounded_size(tmp_path: Path, rows: int) -> None:
    names = [f"f{number}" for number in range(40)]
    file = tmp_path / "0.parquet"
    values = np.arange(rows + 5, dtype=np.uint32).astype(np.uint8)
    table = pa.table({name: values + number for number, name in enumerate(names)})
    pq.write_table(table, file, row_group_size=rows)
    piece = Piece(file, 0, 11, rows - 30)

    tables = list(read_tables(piece, names))

    assert pa.concat_tables(tables).equals(read_piece(piece, names))
    assert len(tables) == (1 if rows == 70_000 else 11)
    assert pa.concat_tables(read_tables(Piece(file, 1, 0, 5), ["f3"])).equals(
        table.slice(rows).select(["f3"])
    )


@pytest.mark.parametrize(("width", "length"), [(1000, None), (3, 300)], ids=["wide rows", "lists"])
def test_rows_with_many_values_are_read_fewer_at_a_time(
    tmp_path: Path, width: int, length: int | None
) -> None:
    rows, file = 8000, tmp_path / "0.parquet"
    one = pa.array(np.arange(rows * (length or 1), dtype=np.uint32).astype(np.uint8))
    if length is not None:
        one = pa.ListArray.from_arrays(np.arange(0, len(one) + 1, length, dtype=np.int32), one)
    table = pa.table({f"f.{number}": one for number in range(width)})
    pq.write_table(table, file, row_group_size=rows)

    tables = list(read_tables(Piece(file, 0, 0, rows), table.column_names))

    assert pa.concat_tables(tables).equals(table)
    assert max(map(len, tables)) * width * (length or 1) * 8 <= 16 << 20


def test_a_column_beside_great_ones_is_read_at_once(tmp_path: Path) -> None:
    file, rows = tmp_path / "0.parquet", 30_000
    table = pa.table({"few": np.arange(rows), "many": [list(range(300))] * rows})
    pq.write_table(table, file)

    [found] = read_tables(Piece(file, 0, 0, rows), ["few"])

    assert found.equals(table.select(["few"]))
