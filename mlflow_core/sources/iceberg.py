"""Which files an Iceberg table is made of, as the library ``pyiceberg`` reads its metadata. Reads no rows.

Columns are found in the files by their field numbers, so a column that was renamed in the table stays the same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlflow_core.config.secret import resolve, reveal
from mlflow_core.errors import SourceError
from mlflow_core.sources.files import DataFile
from mlflow_core.sources.footers import Footer
from mlflow_core.sources.lake import LakeTable
from mlflow_core.sources.part import wrong
from mlflow_core.spec import IcebergSource

__all__ = ["iceberg_table", "refuse_deletes"]

_FIELD = b"PARQUET:field_id"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iceberg_table(source: IcebergSource, base: str) -> LakeTable:
    """Find the files of an Iceberg table.

    Args:
        source: The source.
        base: Folder of the feature repository; relative paths start there.

    Raises:
        SourceError: The extra is not installed, there is no such catalog, table or snapshot, or it uses what cannot
            be read.
    """
    try:
        from pyiceberg.catalog import load_catalog
        from pyiceberg.exceptions import NoSuchTableError
        from pyiceberg.io.pyarrow import schema_to_pyarrow
    except ImportError as error:
        raise wrong(
            source, "needs the library pyiceberg", hint='Install it: pip install "mlflow-core[iceberg]".'
        ) from error
    try:
        catalog = load_catalog(source.catalog, **_properties(source, base))
        table = catalog.load_table(source.table)
        _check_snapshot(source, table)
        scan = table.scan(snapshot_id=source.snapshot)
        schema, tasks = scan.projection(), list(scan.plan_files())
        fields = schema_to_pyarrow(schema)
    except NoSuchTableError as error:
        raise wrong(source, f'there is no Iceberg table "{source.table}"') from error
    except SourceError:
        raise
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise wrong(source, f'Iceberg table "{source.table}" cannot be read: {reason}') from error
    refuse_deletes(source, tasks)
    files = [_file(table, task.file, schema) for task in tasks]
    named = table.name_mapping()
    numbers = {field.name: field.field_id for field in schema.fields}
    defaults = {field.name for field in schema.fields if field.initial_default is not None}
    return LakeTable(
        source,
        pa.schema([pa.field(field.name, field.type) for field in fields]),
        tuple(sorted(files, key=lambda file: file.name)),
        partial(_columns_of, source, numbers, defaults, named),
    )


def refuse_deletes(source: IcebergSource, tasks: list[Any]) -> None:
    """Refuse a table whose files are not Parquet, or hold rows that other files delete.

    Raises:
        SourceError: There is such a file, which is named.
    """
    for task in tasks:
        name = task.file.file_path.rpartition("/")[2]
        if task.file.file_format != "PARQUET":
            raise wrong(source, f'file "{name}" is {task.file.file_format}', expected="Parquet files")
        if task.delete_files:
            raise wrong(
                source,
                f'rows of file "{name}" are deleted by other files (merge on read)',
                hint="Write the deletes into the files: call the table's rewrite_data_files.",
            )


def _properties(source: IcebergSource, base: str) -> dict[str, str]:
    found = {name: reveal(resolve(value, Path(base))) for name, value in source.properties.items()}
    file = found.get("uri", "").removeprefix("sqlite:///")
    if file != found.get("uri", "") and file not in ("", ":memory:"):
        path = Path(base).absolute() / file
        if not path.exists():  # SQLite would make an empty catalog of a misspelt path
            raise wrong(source, f'there is no SQLite catalog "{file}"', hint=f"Looked for {path}.")
        found["uri"] = f"sqlite:///{path}"
    return found


def _check_snapshot(source: IcebergSource, table: Any) -> None:
    known = [snapshot.snapshot_id for snapshot in table.snapshots()]
    if source.snapshot is not None and source.snapshot not in known:
        newest = ", ".join(str(number) for number in known[-3:])
        raise wrong(
            source,
            f'Iceberg table "{source.table}" has no snapshot {source.snapshot}',
            expected=f"one of its {len(known)}, the newest of which are {newest}",
        )


def _file(table: Any, data: Any, schema: Any) -> DataFile:
    url = data.file_path if "://" in data.file_path else f"file://{data.file_path.removeprefix('file:')}"
    name = data.file_path.removeprefix(table.location().rstrip("/")).lstrip("/")
    # Files that were added to a table, not written by it, may lack the columns that they are partitioned by.
    spec = table.specs()[data.spec_id]
    partition = {
        schema.find_column_name(field.source_id): _text(
            data.partition[place], str(table.schema().find_type(field.source_id))
        )
        for place, field in enumerate(spec.fields)
        if str(field.transform) == "identity"
    }
    return DataFile(url, name, int(data.file_size_in_bytes), "", partition)


def _columns_of(
    source: IcebergSource,
    numbers: Mapping[str, int],
    defaults: set[str],
    named: Any,
    footer: Footer,
) -> Mapping[str, str]:
    held = {}
    for field in footer.metadata.schema.to_arrow_schema():
        number = (field.metadata or {}).get(_FIELD)
        held[int(number) if number else _mapped(source, named, field.name)] = field.name
    for name in sorted(defaults):
        if numbers[name] not in held:
            raise wrong(
                source, f'column "{name}" has a default that file "{footer.file.name}" was written without'
            )
    return {name: held[number] for name, number in numbers.items() if number in held}


def _mapped(source: IcebergSource, named: Any, column: str) -> int:
    for field in named or ():
        if column in field.names:
            return int(field.field_id)
    raise wrong(
        source, f'column "{column}" of its files has no field number, and no name mapping gives it one'
    )


def _text(value: Any, kind: str) -> str | None:
    if value is None:
        return None
    if kind == "date":
        return (_EPOCH + timedelta(days=value)).date().isoformat()
    if kind.startswith("timestamp"):
        return (_EPOCH + timedelta(microseconds=value)).isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)
