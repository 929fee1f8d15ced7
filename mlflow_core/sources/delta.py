"""Which files a Delta table is made of, as the library ``deltalake`` reads its log. Reads no rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from mlflow_core.errors import SourceError
from mlflow_core.sources.files import DataFile
from mlflow_core.sources.footers import Footer
from mlflow_core.sources.lake import LakeTable
from mlflow_core.sources.part import wrong
from mlflow_core.spec import DeltaSource

__all__ = ["delta_table"]

_UNDERSTOOD = {
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "typeWidening",
    "typeWidening-preview",
    "v2Checkpoint",
    "vacuumProtocolCheck",
}
"""Features that change nothing in how files are read, or that are looked at below."""


def delta_table(source: DeltaSource, base: str) -> LakeTable:
    """Find the files of a Delta table.

    Args:
        source: The source.
        base: Folder of the feature repository; relative paths start there.

    Raises:
        SourceError: The extra is not installed, there is no such table or version, or it uses what cannot be read.
    """
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError as error:
        raise wrong(
            source, "needs the library deltalake", hint='Install it: pip install "mlflow-core[delta]".'
        ) from error
    root = source.path if "://" in source.path else str(Path(base).absolute() / source.path)
    try:
        table = DeltaTable(root, version=source.version)
        _refuse_what_files_do_not_say(source, table)
        actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
        schema = pa.schema(table.schema().to_arrow())
    except SourceError:
        raise
    except (DeltaError, OSError, ValueError) as error:
        at = "" if source.version is None else f" at version {source.version}"
        reason = str(error).splitlines()[0]
        raise wrong(source, f'Delta table "{source.path}"{at} cannot be read: {reason}') from error
    files = [_file(root, action) for action in actions]
    return LakeTable(source, schema, tuple(sorted(files, key=lambda file: file.name)), _columns_of)


def _columns_of(footer: Footer) -> Mapping[str, str]:
    return {name: name for name in footer.metadata.schema.to_arrow_schema().names}


def _refuse_what_files_do_not_say(source: DeltaSource, table: Any) -> None:
    features = set(table.protocol().reader_features or ())
    if unknown := sorted(features - _UNDERSTOOD):
        raise wrong(source, f'the Delta table uses the feature "{unknown[0]}", which cannot be read here')
    if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        raise wrong(
            source,
            "the Delta table keeps its columns under other names in its files (delta.columnMapping.mode)",
            hint="Write it anew without column mapping.",
        )
    if "deletionVectors" in features and pa.table(table.deletion_vectors()).num_rows:
        raise wrong(
            source,
            "the Delta table has rows deleted beside their files (deletion vectors)",
            hint="Write the deletes into the files: REORG TABLE ... APPLY (PURGE).",
        )


def _file(root: str, action: Mapping[str, Any]) -> DataFile:
    name = unquote(action["path"])
    url = name if "://" in name else f"{root if '://' in root else f'file://{root}'}".rstrip("/") + f"/{name}"
    partition = {
        key.removeprefix("partition."): _text(value)
        for key, value in action.items()
        if key.startswith("partition.")
    }
    return DataFile(url, name, int(action["size_bytes"]), "", partition)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, date | datetime):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)
