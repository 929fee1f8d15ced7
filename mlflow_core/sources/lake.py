"""Events in Delta and Iceberg tables: the table says which files it is made of, the files are read as Parquet.

The order is that of the files' paths, as for Parquet. What a table can hold and this cannot read exactly (rows
deleted beside their files, columns under physical names, files that are not Parquet) is refused by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson
import pyarrow as pa

from mlflow_core.algebra.columns import settled_schema
from mlflow_core.sources.files import DataFile
from mlflow_core.sources.footers import Footer, read_footers
from mlflow_core.sources.listing import SourceListing
from mlflow_core.sources.parquet import ParquetPart, parts_of_file
from mlflow_core.sources.part import renamed
from mlflow_core.spec import DeltaSource, IcebergSource

__all__ = ["LakeTable", "list_lake", "schema_of_lake", "snapshot_of_lake"]


@dataclass(frozen=True, slots=True)
class LakeTable:
    """A table at one version.

    Attributes:
        source: The source.
        schema: The table's columns, under its own names.
        files: Its data files in the order of their paths, with the values that are not in them.
        columns_of: Tells the name in the table -> the name in the file of a file's columns.
    """

    source: DeltaSource | IcebergSource
    schema: pa.Schema
    files: tuple[DataFile, ...]
    columns_of: Callable[[Footer], Mapping[str, str]]


def list_lake(table: LakeTable) -> SourceListing:
    """Read the footers of a table's files; see ``sources.open_source``."""
    source = table.source
    called = renamed(source, table.schema.names)
    schema = schema_of_lake(table)
    found: list[ParquetPart] = []
    for footer in read_footers(source, table.files):
        stored = {called[name]: held for name, held in table.columns_of(footer).items() if name in called}
        found += parts_of_file(source, footer, schema, stored)
    return SourceListing(source, schema, tuple(found), snapshot_of_lake(table))


def schema_of_lake(table: LakeTable) -> pa.Schema:
    """Return the table's columns under their names in the specs; see ``sources.read_schema``."""
    called = renamed(table.source, table.schema.names)
    settled = settled_schema(table.schema)
    return pa.schema([pa.field(called[field.name], field.type) for field in settled])


def snapshot_of_lake(table: LakeTable) -> str:
    """Return the fingerprint of the files and columns, which a table's files have for good; see ``sources.snapshot``."""
    columns = [(field.name, str(field.type)) for field in schema_of_lake(table)]
    files = [(file.name, file.size, sorted(file.partition.items())) for file in table.files]
    return f"sha256:{hashlib.sha256(orjson.dumps([columns, files])).hexdigest()}"
