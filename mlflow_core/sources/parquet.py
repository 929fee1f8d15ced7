"""Events in Parquet files: one schema for all files of a source, and parts of one file or some of its row groups."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core.algebra.columns import settled, settled_type
from mlflow_core.algebra.types import TIME
from mlflow_core.sources.files import DataFile, check_unchanged, find_files, open_parquet
from mlflow_core.sources.footers import Footer, read_footers, unreadable
from mlflow_core.sources.listing import SourceListing
from mlflow_core.sources.part import chosen, renamed, wrong
from mlflow_core.sources.spans import (
    NO_TIMES,
    Between,
    Span,
    as_time,
    group_spans,
    joined_span,
    may_hold,
    reported_span,
)
from mlflow_core.spec import ParquetSource, Source

__all__ = [
    "ParquetPart",
    "RowGroup",
    "list_parquet",
    "parts_of_file",
    "schema_of_files",
    "seen_files",
    "snapshot_of",
]

PART_BYTES = 128 * 1024 * 1024
"""A file's row groups are put together up to this many bytes in memory."""
_IN_THREADS = 32 << 20  # bytes of a part from which on threads are worth it
_AT_ONCE = 1 << 20
_WIDER = {
    (pa.int32(), pa.int64()): pa.int64(),
    (pa.float32(), pa.float64()): pa.float64(),
}


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group of a file.

    Attributes:
        number: Its place in the file.
        rows: Rows in it.
        bytes: Bytes that it takes uncompressed.
        span: Event times that its statistics prove.
    """

    number: int
    rows: int
    bytes: int
    span: Span | None


@dataclass(frozen=True, slots=True)
class ParquetPart:
    """Some row groups of one file.

    Attributes:
        source: The source.
        file: The file.
        footer: Digest of its footer.
        groups: The row groups, in the file's order.
        whole: Whether they are all of the file.
        schema: The source's columns under their names in the specs.
        stored: Name in the specs -> name in the file, of the columns that are in the file.
    """

    source: Source
    file: DataFile
    footer: str
    groups: tuple[RowGroup, ...]
    whole: bool
    schema: pa.Schema
    stored: Mapping[str, str]

    @property
    def name(self) -> str:
        """The file's name, and its row groups where they are not all."""
        if self.whole:
            return self.file.name
        return f"{self.file.name}[{self.groups[0].number}-{self.groups[-1].number}]"

    @property
    def rows(self) -> int:
        """Rows in its row groups."""
        return sum(group.rows for group in self.groups)

    @property
    def bytes(self) -> int:
        """Bytes that they take uncompressed."""
        return sum(group.bytes for group in self.groups)

    @property
    def span(self) -> Span | None:
        """Least and greatest event time as the statistics say; see ``SourcePart``."""
        return reported_span(joined_span(group.span for group in self.groups))

    @property
    def fingerprint(self) -> str:
        """Digest of where and what it is, and of how it is read; see ``SourcePart``."""
        file = self.file
        stored = [file.url, file.size, file.version, file.touched, self.footer]
        content = [*stored, [group.number for group in self.groups]]
        reading = [
            [(field.name, str(field.type)) for field in self.schema],
            sorted(self.stored.items()),
            sorted(file.partition.items()),
        ]
        return f"sha256:{hashlib.sha256(orjson.dumps([content, reading])).hexdigest()}"

    def within(self, between: Between | None) -> ParquetPart | None:
        """Leave out row groups without an event time between two others; see ``SourcePart``."""
        if between is None:
            return self
        kept = tuple(group for group in self.groups if group.rows and may_hold(group.span, between))
        if len(kept) == len(self.groups):
            return self
        return replace(self, groups=kept, whole=False) if kept else None

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the columns wanted, all by default, in the order asked for; see ``SourcePart``."""
        names = chosen(self.source, self.schema, columns)
        try:
            with open_parquet(self.file) as file:
                wanted = [self.stored[name] for name in names if name in self.stored]
                table = self._read(file, wanted)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise unreadable(self.source, self.file, error) from error
        check_unchanged(self.source, self.file)
        made = [self._column(name, table) for name in names]
        return pa.table(made, schema=pa.schema([self.schema.field(name) for name in names]))

    def _read(self, file: pq.ParquetFile, wanted: Sequence[str]) -> pa.Table:
        """Read columns; of a small part a few after the others in this thread.

        For a few megabytes threads cost more than they save, and each of them keeps memory of its own; what was
        decoded for some columns is used again for the next.
        """
        groups = [group.number for group in self.groups]
        if not self.file.is_local or self.bytes > _IN_THREADS:
            return file.read_row_groups(groups, columns=wanted)
        at_once = max(1, -(-len(wanted) // max(1, self.bytes // _AT_ONCE)))
        table = file.read_row_groups(groups, columns=wanted[:at_once], use_threads=False)
        for first in range(at_once, len(wanted), at_once):
            some = file.read_row_groups(groups, columns=wanted[first : first + at_once], use_threads=False)
            for name in some.column_names:
                table = table.append_column(some.schema.field(name), some.column(name))
        return table

    def _column(self, name: str, table: pa.Table) -> pa.ChunkedArray:
        kind = self.schema.field(name).type
        if name not in self.stored:
            value = _partition_value(_partition_text(self.source, self.file, name), kind)
            return pa.chunked_array([pa.repeat(value, self.rows)])
        try:
            column = settled(table.column(self.stored[name]))
            column = column if column.type == kind else column.cast(kind)
            if _holds_text(kind):
                column.validate(full=True)
            return column
        except pa.ArrowException as error:
            raise wrong(
                self.source,
                f'{self.file.name}: column "{name}" does not fit {kind}: {str(error).splitlines()[0]}',
                hint="Store it as binary, or write it in UTF-8." if "UTF8" in str(error) else None,
            ) from error


def list_parquet(source: ParquetSource, base: str) -> SourceListing:
    """Read the footers of all files; see ``sources.open_source``."""
    files = find_files(source, base)
    footers = read_footers(source, files)
    schema = schema_of_files(source, footers)
    found: list[ParquetPart] = []
    for footer in footers:
        names = footer.metadata.schema.to_arrow_schema().names
        found += parts_of_file(
            source, footer, schema, {source.rename.get(name, name): name for name in names}
        )
    return SourceListing(source, schema, tuple(found), _fingerprint(files))


def parts_of_file(
    source: Source, footer: Footer, schema: pa.Schema, stored: Mapping[str, str]
) -> Iterator[ParquetPart]:
    """Cut a file into parts of as many row groups as fit; a file without any is one part.

    Args:
        source: The source.
        footer: The file's footer.
        schema: The source's columns under their names in the specs.
        stored: Name in the specs -> name in the file, of the columns that are in the file. Others stand in the
            folders' names, or are null.
    """
    runs: list[list[RowGroup]] = [[]]
    size = 0
    for group in _groups(source, footer, schema, stored):
        if runs[-1] and size + group.bytes > PART_BYTES:
            runs, size = [*runs, []], 0
        runs[-1].append(group)
        size += group.bytes
    whole = len(runs) == 1
    for run in runs:
        yield ParquetPart(source, footer.file, footer.digest, tuple(run), whole, schema, stored)


def snapshot_of(source: ParquetSource, base: str) -> str:
    """Return the fingerprint of paths, sizes and times of change; see ``sources.snapshot``."""
    return _fingerprint(find_files(source, base))


def seen_files(source: ParquetSource, base: str) -> tuple[str, dict[str, tuple[str, str]]]:
    """Return ``snapshot_of``, and by the place of each file of this machine its size and time, and how it was touched."""
    files = find_files(source, base)
    told = {one.url: (f"{one.size} {one.version}", one.touched) for one in files if one.touched}
    return _fingerprint(files), told


def schema_of_files(source: Source, footers: Sequence[Footer]) -> pa.Schema:
    """Return the one schema of all files, under the names in the specs.

    Raises:
        SourceError: The files differ in their columns, or ``rename`` does not fit them.
    """
    first, fields = footers[0].file, _fields(source, footers[0])
    for footer in footers[1:]:
        file, these = footer.file, _fields(source, footer)
        for name in [*fields, *these]:
            if name not in these or name not in fields:
                lacking, having = (file, first) if name not in these else (first, file)
                raise wrong(
                    source,
                    f'its files differ: "{lacking.name}" lacks column "{name}", which "{having.name}" has',
                    expected="the same columns in every file",
                )
            fields[name] = _common(source, name, (first, fields[name]), (file, these[name]))
    typed = {
        name: _partition_type(source, name, footers) if kind is None else kind
        for name, kind in fields.items()
    }
    called = renamed(source, list(typed))
    return pa.schema([pa.field(called[name], kind) for name, kind in typed.items()])


def _fingerprint(files: Sequence[DataFile]) -> str:
    listed = "\n".join(f"{file.name}\t{file.size}\t{file.version}" for file in files)
    return f"sha256:{hashlib.sha256(listed.encode()).hexdigest()}"


def _fields(source: Source, footer: Footer) -> dict[str, pa.DataType | None]:
    """Columns of a file; those that stand in its folders' names have no type of their own."""
    fields: dict[str, pa.DataType | None] = {}
    for field in footer.metadata.schema.to_arrow_schema():
        if field.name in fields:
            raise wrong(source, f'file "{footer.file.name}" has two columns called "{field.name}"')
        fields[field.name] = settled_type(field.type)
    return {**fields, **{name: None for name in footer.file.partition if name not in fields}}


def _common(
    source: Source,
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


def _partition_type(source: Source, name: str, footers: Sequence[Footer]) -> pa.DataType:
    values = [value for footer in footers if (value := footer.file.partition.get(name)) is not None]
    if values and all(_is_integer(value) for value in values):
        return pa.int64()
    times = (source.event_time, source.known_at, source.created)
    if values and source.rename.get(name, name) in times and all(_is_time(value) for value in values):
        return TIME
    return pa.string()


def _is_integer(text: str) -> bool:
    # "007" is a name, not the number 7.
    return text.removeprefix("-").isdecimal() and str(int(text)) == text


def _is_time(text: str) -> bool:
    try:
        as_time(text)
    except ValueError:
        return False
    return True


def _partition_text(source: Source, file: DataFile, name: str) -> str | None:
    return file.partition.get(next((old for old, new in source.rename.items() if new == name), name))


def _partition_value(text: str | None, kind: pa.DataType) -> pa.Scalar:
    if text is None:
        return pa.scalar(None, kind)
    if kind == TIME:
        return pa.scalar(as_time(text), pa.int64()).cast(TIME)
    return pa.scalar(text).cast(kind)


def _holds_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or (pa.types.is_nested(kind) and "string" in str(kind))


def _groups(
    source: Source, footer: Footer, schema: pa.Schema, stored: Mapping[str, str]
) -> Iterator[RowGroup]:
    spans = _spans(source, footer, schema, stored)
    for number in range(footer.metadata.num_row_groups):
        group = footer.metadata.row_group(number)
        yield RowGroup(number, group.num_rows, group.total_byte_size, spans[number])


def _spans(
    source: Source, footer: Footer, schema: pa.Schema, stored: Mapping[str, str]
) -> tuple[Span | None, ...]:
    name, n = source.event_time, int(footer.metadata.num_row_groups)
    if name not in schema.names or schema.field(name).type != TIME:
        return (None,) * n
    if name in stored:
        return group_spans(footer.metadata, stored[name])
    time = as_time(_partition_text(source, footer.file, name))
    return (NO_TIMES if time is None else (time, time),) * n
