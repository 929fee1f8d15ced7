"""Shards: ranges of output rows as Parquet files, all of a retrieval's or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core.engine.files.drafts import draft_folder, write_at_once

__all__ = ["ROWS_PER_SHARD", "publish_shards", "write_shard", "write_shards"]

ROWS_PER_SHARD = 250_000


def write_shards(pieces: Iterable[pa.Table], out: Path) -> tuple[Path, ...]:
    """Write tables as ``part-00000.parquet`` and so on; one at a time is in memory.

    Args:
        pieces: The shards' rows, in order.
        out: The folder; it is made if need be.

    Returns:
        The shards, in order. If a piece fails, none is left.
    """
    return publish_shards(
        out, lambda draft: [write_shard(piece, draft, number) for number, piece in enumerate(pieces)]
    )


def publish_shards(out: Path, write: Callable[[Path], Iterable[str]]) -> tuple[Path, ...]:
    """Write shards aside, and move them to their folder when all are there.

    Args:
        out: The folder; it is made if need be.
        write: Writes the shards to the folder that it is given, itself or through others, and names them.

    Returns:
        The shards, in the order of their names as given.
    """
    with draft_folder(out, ".shards") as draft:
        names = list(write(draft))
        for name in names:
            (draft / name).replace(out / name)
    return tuple(out / name for name in names)


def write_shard(table: pa.Table, folder: Path, number: int) -> str:
    """Write one shard, complete or not at all, and return the file's name.

    Args:
        table: Its rows.
        folder: Where.
        number: Which of the shards it is, from 0.
    """
    name = f"part-{number:05d}.parquet"
    # A dictionary of numbers that hardly repeat takes four times as long to write and is larger.
    texts = [field.name for field in table.schema if _is_text(field.type)]
    write_at_once(
        folder / name,
        lambda half: pq.write_table(table, half, coerce_timestamps="us", use_dictionary=texts or False),
    )
    return name


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_dictionary(kind))
