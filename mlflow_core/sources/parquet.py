"""Events in Parquet files: one schema for all files of a source, and parts of one file or some of its row groups."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core.algebra.columns import settled, settled_type
from mlflow_core.errors import SourceError
from mlflow_core.sources.files import DataFile, find_files, open_file
from mlflow_core.sources.part import chosen, renamed, wrong
from mlflow_core.spec import ParquetSource

__all__ = ["ParquetPart", "parts_of", "schema_of", "snapshot_of"]

PART_BYTES = 128 * 1024 * 1024
"""A file's row groups are put together up to this many bytes in memory."""
_WIDER = {
    (pa.int32(), pa.int64()): pa.int64(),
    (pa.float32(), pa.float64()): pa.float64(),
}


@dataclass(frozen=True, slots=True)
class ParquetPart:
    """Some row groups of one file.

    Attributes:
        source: The source.
        file: The file.
        groups: Its row groups; empty means all.
        rows: Rows in them.
        bytes: Bytes that they take uncompressed.
        schema: The source's columns under their names in the specs.
    """

    source: ParquetSource
    file: DataFile
    groups: tuple[int, ...]
    rows: int
    bytes: int
    schema: pa.Schema

    @property
    def name(self) -> str:
        """The file's name, and its row groups where they are not all."""
        return f"{self.file.name}[{self.groups[0]}-{self.groups[-1]}]" if self.groups else self.file.name

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the columns wanted, all by default, in the order asked for; see ``SourcePart``."""
        names = chosen(self.source, self.schema, columns)
        try:
            with open_file(self.file.url) as handle, pq.ParquetFile(handle) as file:
                called = renamed(self.source, [*file.schema_arrow.names, *_absent(file, self.file)])
                stored = {new: old for old, new in called.items() if old in file.schema_arrow.names}
                wanted = [stored[name] for name in names if name in stored]
                groups = self.groups or range(file.num_row_groups)
                table = file.read_row_groups(list(groups), columns=wanted)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(self.source, self.file, error) from error
        made = [self._column(name, table, stored) for name in names]
        return pa.table(made, schema=pa.schema([self.schema.field(name) for name in names]))

    def _column(self, name: str, table: pa.Table, stored: Mapping[str, str]) -> pa.ChunkedArray:
        kind = self.schema.field(name).type
        if name not in stored:
            original = next((old for old, new in self.source.rename.items() if new == name), name)
            value = self.file.partition[original]
            typed = int(value) if value is not None and kind == pa.int64() else value
            return pa.chunked_array([pa.repeat(pa.scalar(typed, kind), table.num_rows)])
        try:
            return settled(table.column(stored[name])).cast(kind)
        except pa.ArrowException as error:
            raise wrong(
                self.source, f'{self.file.name}: column "{name}" does not fit {kind}: {error}'
            ) from error


def schema_of(source: ParquetSource, base: str) -> pa.Schema:
    """Return the one schema of all files; see ``sources.read_schema``."""
    return _schema(source, _footers(source, find_files(source, base)))


def parts_of(source: ParquetSource, base: str) -> tuple[ParquetPart, ...]:
    """Return the parts in path order; see ``sources.parts``."""
    footers = _footers(source, find_files(source, base))
    schema = _schema(source, footers)
    return tuple(
        ParquetPart(source, file, groups, rows, size, schema)
        for file, footer in footers
        for groups, rows, size in _grouped(footer)
    )


def snapshot_of(source: ParquetSource, base: str) -> str:
    """Return the fingerprint of paths, sizes and times of change; see ``sources.snapshot``."""
    listed = "\n".join(f"{file.name}\t{file.size}\t{file.version}" for file in find_files(source, base))
    return f"sha256:{hashlib.sha256(listed.encode()).hexdigest()}"


Footers = tuple[tuple[DataFile, pq.FileMetaData], ...]


def _footers(source: ParquetSource, files: Sequence[DataFile]) -> Footers:
    def read(file: DataFile) -> tuple[DataFile, pq.FileMetaData]:
        try:
            with open_file(file.url) as handle:
                return file, pq.read_metadata(handle)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(source, file, error) from error

    with ThreadPoolExecutor(max_workers=8) as pool:
        return tuple(pool.map(read, files))


def _unreadable(source: ParquetSource, file: DataFile, error: Exception) -> SourceError:
    reason = str(error).split("\n")[0].rstrip(".")
    return wrong(
        source,
        f'file "{file.name}" cannot be read: {reason}',
        hint="It is truncated or no Parquet file; write it again."
        if isinstance(error, pa.ArrowInvalid)
        else None,
    )


def _schema(source: ParquetSource, footers: Footers) -> pa.Schema:
    first, fields = footers[0][0], _fields(*footers[0])
    for file, footer in footers[1:]:
        these = _fields(file, footer)
        for name in [*fields, *these]:
            if name not in these or name not in fields:
                lacking, having = (file, first) if name not in these else (first, file)
                raise wrong(
                    source,
                    f'its files differ: "{lacking.name}" lacks column "{name}", which "{having.name}" has',
                    expected="the same columns in every file",
                )
            fields[name] = _common(source, name, (first, fields[name]), (file, these[name]))
    typed = {name: _partition_type(name, footers) if kind is None else kind for name, kind in fields.items()}
    called = renamed(source, list(typed))
    return pa.schema([pa.field(called[name], kind) for name, kind in typed.items()])


def _fields(file: DataFile, footer: pq.FileMetaData) -> dict[str, pa.DataType | None]:
    """Columns of a file; those that stand in its folders' names have no type of their own."""
    fields: dict[str, pa.DataType | None] = {
        field.name: settled_type(field.type) for field in footer.schema.to_arrow_schema()
    }
    return {**fields, **{name: None for name in file.partition if name not in fields}}


def _common(
    source: ParquetSource,
    name: str,
    one: tuple[DataFile, pa.DataType | None],
    other: tuple[DataFile, pa.DataType | None],
) -> pa.DataType | None:
    a, b = one[1], other[1]
    if a == b or b == pa.null():
        return a
    if a == pa.null():
        return b
    wider = _WIDER.get((a, b)) or _WIDER.get((b, a))
    if wider is None:
        raise wrong(
            source,
            f'its files differ: column "{name}" is {a} in "{one[0].name}" and {b} in "{other[0].name}"',
            expected="one type in every file",
        )
    return wider


def _partition_type(name: str, footers: Footers) -> pa.DataType:
    values = [value for file, _ in footers if (value := file.partition.get(name)) is not None]
    return pa.int64() if values and all(_is_integer(value) for value in values) else pa.string()


def _is_integer(text: str) -> bool:
    # "007" is a name, not the number 7.
    return text.removeprefix("-").isdecimal() and str(int(text)) == text


def _absent(file: pq.ParquetFile, data: DataFile) -> list[str]:
    return [name for name in data.partition if name not in file.schema_arrow.names]


def _grouped(footer: pq.FileMetaData) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Cut a file into runs of row groups, with their rows and bytes; one empty run is the whole file."""
    runs: list[list[int]] = [[]]
    rows, sizes = [0], [0]
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        if runs[-1] and sizes[-1] + group.total_byte_size > PART_BYTES:
            runs, rows, sizes = [*runs, []], [*rows, 0], [*sizes, 0]
        runs[-1].append(number)
        rows[-1] += group.num_rows
        sizes[-1] += group.total_byte_size
    whole = len(runs) == 1
    yield from (
        (() if whole else tuple(run), count, size) for run, count, size in zip(runs, rows, sizes, strict=True)
    )
