"""What other rooms ask of a source: its schema, its parts, everything, and a fingerprint of what would be read.

*Source order* is the order of the parts (by path), then of the rows inside each; it decides ties between events.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from mlflow_core.sources.part import SourcePart, chosen, wrong
from mlflow_core.spec import ParquetSource, Source

__all__ = ["parts", "read_schema", "read_table", "snapshot"]


def read_schema(source: Source, base: str) -> pa.Schema:
    """Return the columns of a source under their names in the specs, without reading rows.

    Args:
        source: The source.
        base: Folder of the feature repository; relative paths start there.

    Raises:
        SourceError: There are no data, they cannot be read, or their files differ in their columns.
    """
    if isinstance(source, ParquetSource):
        from mlflow_core.sources import parquet

        return parquet.schema_of(source, base)
    from mlflow_core.sources import sql

    return sql.schema_of(source, base)


def parts(source: Source, base: str) -> tuple[SourcePart, ...]:
    """Return the pieces of a source, in source order.

    Args:
        source: The source.
        base: Folder of the feature repository; relative paths start there.

    Raises:
        SourceError: There are no data or no rows, they cannot be read, or their files differ in their columns.
    """
    if isinstance(source, ParquetSource):
        from mlflow_core.sources import parquet

        found: tuple[SourcePart, ...] = parquet.parts_of(source, base)
    else:
        from mlflow_core.sources import sql

        found = sql.parts_of(source, base)
    if not any(part.rows for part in found):
        raise wrong(source, f"is empty: {len(found)} part{'s' * (len(found) != 1)} without a row")
    return found


def read_table(source: Source, base: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a whole source, in source order.

    Args:
        source: The source.
        base: Folder of the feature repository; relative paths start there.
        columns: The columns wanted, under their names in the specs; all by default.

    Returns:
        One table, shape (events, columns); times are ``timestamp[us, UTC]``.

    Raises:
        SourceError: As for ``parts``; or a column does not exist.
    """
    wanted = None if columns is None else chosen(source, read_schema(source, base), columns)
    return pa.concat_tables([part.read(wanted) for part in parts(source, base)])


def snapshot(source: Source, base: str) -> str:
    """Return a fingerprint of what would be read: it changes when the data do.

    For files it is made of paths, sizes and times of change; for tables of the number of rows and the greatest
    event, creation and knowledge time.

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

        return parquet.snapshot_of(source, base)
    from mlflow_core.sources import sql

    return sql.snapshot_of(source, base)
