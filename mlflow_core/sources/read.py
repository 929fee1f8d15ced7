"""What other rooms ask of a source: its schema, its parts, everything, and a fingerprint of what would be read.

*Source order* is the order of the parts (by path), then of the rows inside each; it decides ties between events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from mlflow_core.sources.listing import SourceListing
from mlflow_core.sources.part import SourcePart
from mlflow_core.sources.spans import Between
from mlflow_core.sources.transformed import schema_after, snapshot_after, transformed
from mlflow_core.spec import DeltaSource, IcebergSource, ParquetSource, Source, SqlSource

if TYPE_CHECKING:
    from mlflow_core.sources.lake import LakeTable

__all__ = ["SeenSource", "files_of", "open_source", "parts", "read_schema", "read_table", "seen", "snapshot"]


def open_source(source: Source, base: str) -> SourceListing:
    """List a source once, for its schema, its parts and its fingerprint together.

    Args:
        source: The source.
        base: Folder of the feature repository; relative paths start there.

    Raises:
        SourceError: There are no data, they cannot be read, or their files differ in their columns.
    """
    if isinstance(source, ParquetSource):
        from mlflow_core.sources.parquet import list_parquet

        return transformed(list_parquet(source, base))
    if isinstance(source, SqlSource):
        from mlflow_core.sources.sql import list_sql

        return transformed(list_sql(source, base))
    from mlflow_core.sources.lake import list_lake

    return transformed(list_lake(_lake_table(source, base)))


def read_schema(source: Source, base: str) -> pa.Schema:
    """Return the columns of a source under their names in the specs, without reading rows.

    Args:
        source: The source.
        base: Folder of the feature repository; relative paths start there.

    Raises:
        SourceError: There are no data, they cannot be read, or their files differ in their columns.
    """
    if isinstance(source, ParquetSource):
        return open_source(source, base).schema
    if isinstance(source, SqlSource):
        from mlflow_core.sources.sql import schema_of

        return schema_after(source, schema_of(source, base))
    from mlflow_core.sources.lake import schema_of_lake

    return schema_after(source, schema_of_lake(_lake_table(source, base)))


def parts(source: Source, base: str, *, between: Between | None = None) -> tuple[SourcePart, ...]:
    """Return the pieces of a source, in source order.

    Args:
        source: The source.
        base: Folder of the feature repository; relative paths start there.
        between: Leave out parts that are proven to hold no event time between these two, microseconds since
            epoch, UTC, both included, None is no bound. What is left is cut as it would be without.

    Raises:
        SourceError: There are no data or no rows, they cannot be read, or their files differ in their columns.
    """
    return open_source(source, base).parts(between)


def read_table(
    source: Source, base: str, columns: Sequence[str] | None = None, *, between: Between | None = None
) -> pa.Table:
    """Read a source, in source order.

    Args:
        source: The source.
        base: Folder of the feature repository; relative paths start there.
        columns: The columns wanted, under their names in the specs; all by default.
        between: Leave out what is proven to hold no event time between these two, microseconds since epoch, UTC,
            both included, None is no bound. Rows of other times may remain; rows without one may be left out.

    Returns:
        One table, shape (events, columns); times are ``timestamp[us, UTC]``.

    Raises:
        SourceError: As for ``parts``; or a column does not exist.
    """
    return open_source(source, base).read(columns, between)


def snapshot(source: Source, base: str) -> str:
    """Return a fingerprint of what would be read: it changes when the data do.

    For files it is made of paths, sizes and times of change; for Delta and Iceberg tables of the files of the
    version that is read; for SQL tables of the number of rows, the greatest event, creation and knowledge time, and
    what the database knows of changes.

    Args:
        source: The source.
        base: Folder of the feature repository; relative paths start there.

    Returns:
        ``sha256:`` and 64 hexadecimal digits.

    Raises:
        SourceError: There are no data, or they cannot be listed.
    """
    if isinstance(source, ParquetSource):
        from mlflow_core.sources import parquet

        return snapshot_after(source, parquet.snapshot_of(source, base))
    if isinstance(source, SqlSource):
        from mlflow_core.sources import sql

        return snapshot_after(source, sql.snapshot_of(source, base))
    from mlflow_core.sources.lake import snapshot_of_lake

    return snapshot_after(source, snapshot_of_lake(_lake_table(source, base)))


@dataclass(frozen=True)
class SeenSource:
    """What is seen of a source without reading its rows.

    Attributes:
        content: The fingerprint of what would be read, as ``snapshot`` says it.
        files: Place -> its size and time of change, and the file system's own number and time, of files on this machine.
    """

    content: str
    files: Mapping[str, tuple[str, str]]


def seen(source: Source, base: str) -> SeenSource:
    """Look at what would be read, and at which files on this machine hold it.

    Args:
        source: The source.
        base: Folder of the feature repository; relative paths start there.

    Raises:
        SourceError: There are no data, or they cannot be listed.
    """
    if not isinstance(source, ParquetSource):
        return SeenSource(snapshot(source, base), {})
    from mlflow_core.sources.parquet import seen_files

    content, files = seen_files(source, base)
    return SeenSource(snapshot_after(source, content), files)


def _lake_table(source: DeltaSource | IcebergSource, base: str) -> LakeTable:
    if isinstance(source, DeltaSource):
        from mlflow_core.sources.delta import delta_table

        return delta_table(source, base)
    from mlflow_core.sources.iceberg import iceberg_table

    return iceberg_table(source, base)


def files_of(source: Source, base: str) -> dict[str, str]:
    """Return the files that would be read, each with what changes when its content does; none for a SQL table.

    Args:
        source: The source.
        base: Folder of the feature repository; relative paths start there.

    Raises:
        SourceError: There are no data, or they cannot be listed.
    """
    if isinstance(source, SqlSource):
        return {}
    if isinstance(source, ParquetSource):
        from mlflow_core.sources.files import find_files

        found = find_files(source, base)
    else:
        found = tuple(_lake_table(source, base).files)
    return {file.name: f"{file.size} bytes {file.version}".rstrip() for file in found}
