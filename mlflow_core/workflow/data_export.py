"""A stored training set as files for other tools: Parquet or CSV, a file for each part or one file with all of them.

What is written is what is kept, row by row in its order; nothing is computed or converted but the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from mlflow_core.engine.files.drafts import write_at_once
from mlflow_core.errors import UsageError, nearest
from mlflow_core.workflow.dataset import StoredDataset

__all__ = ["Exported", "Format", "export_dataset"]

Format = Literal["parquet", "csv"]
PART = "part"
"""The column that says which part a row of the one file is of."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: File -> rows.
        format: ``parquet`` or ``csv``.
    """

    files: dict[str, int]
    format: Format


def export_dataset(dataset: StoredDataset, to: Path, *, form: str | None = None) -> Exported:
    """Write a training set out.

    Args:
        dataset: The training set.
        to: A file, if it ends in ``.parquet`` or ``.csv``: it gets all parts, told apart by its first column ``part``.
            Otherwise a folder, new or empty, that gets a file for each part.
        form: ``parquet`` or ``csv``; by default what the file's name says, for a folder Parquet.

    Raises:
        UsageError: Something is there already, the formats contradict each other, CSV cannot hold a column, or one
            file would have two columns ``part``.
    """
    ending = to.suffix.removeprefix(".")
    one_file = ending in get_args(Format)
    chosen = _format(form, ending if one_file else None)
    if to.exists() and (one_file or not to.is_dir() or any(to.iterdir())):
        raise UsageError("is there already", place=str(to), expected="a new file, or a new or empty folder")
    parts = {part: paths for part, paths in dataset.data.shards.items() if paths}
    schema = pa.unify_schemas(
        [pq.read_schema(path).remove_metadata() for paths in parts.values() for path in paths],
        promote_options="permissive",
    )
    if chosen == "csv":
        _check_csv(schema)
    if one_file and PART in schema.names:
        raise UsageError(
            f'has a column "{PART}" of its own, which one file has for the part of each row',
            object="The training set",
            hint="Write a folder: it has a file for each part.",
        )
    if one_file:
        tables = _all(parts, schema)
        whole = pa.schema([pa.field(PART, pa.string()), *schema])
        return Exported({str(to): _write(tables, whole, to, chosen)}, chosen)
    written = {}
    for part, paths in parts.items():
        path = to / f"{part}.{chosen}"
        written[str(path)] = _write(_tables(paths, schema), schema, path, chosen)
    return Exported(written, chosen)


def _format(form: str | None, ending: str | None) -> Format:
    known: tuple[Format, ...] = get_args(Format)
    asked = form or ending or "parquet"
    if form is not None and ending is not None and form != ending:
        raise UsageError(f'"{form}" is asked for, but the file ends in ".{ending}"')
    for one in known:
        if one == asked:
            return one
    raise UsageError(f'"{asked}" is no format', hint=nearest(asked, known))


def _check_csv(schema: pa.Schema) -> None:
    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    if nested:
        raise UsageError(
            f'CSV cannot hold "{nested[0]}", which is {schema.field(nested[0]).type}', hint="Take Parquet."
        )


def _all(parts: dict[str, tuple[Path, ...]], schema: pa.Schema) -> Iterator[pa.Table]:
    for part, paths in parts.items():
        for table in _tables(paths, schema):
            yield table.add_column(0, PART, pa.array([part] * table.num_rows, pa.string()))


def _tables(paths: Sequence[Path], schema: pa.Schema) -> Iterator[pa.Table]:
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
                whole = pa.concat_tables([schema.empty_table(), table], promote_options="permissive")
                yield whole.select(schema.names).cast(schema)


def _write(tables: Iterator[pa.Table], schema: pa.Schema, path: Path, form: Format) -> int:
    rows = 0

    def write(draft: Path) -> None:
        nonlocal rows
        opened: Any = pq.ParquetWriter(draft, schema) if form == "parquet" else pc.CSVWriter(draft, schema)
        with opened as file:
            for table in tables:
                file.write_table(table)
                rows += table.num_rows

    path.parent.mkdir(parents=True, exist_ok=True)
    write_at_once(path, write)
    return rows
