"""How data comes in: Parquet files, SQL, Delta and Iceberg tables, read in parts, always in the same form and order."""

from mlflow_core.sources.listing import SourceListing
from mlflow_core.sources.part import SourcePart
from mlflow_core.sources.read import (
    SeenSource,
    files_of,
    open_source,
    parts,
    read_schema,
    read_table,
    seen,
    snapshot,
)
from mlflow_core.sources.spans import Between, Span

__all__ = [
    "Between",
    "SeenSource",
    "SourceListing",
    "SourcePart",
    "Span",
    "files_of",
    "open_source",
    "parts",
    "read_schema",
    "read_table",
    "seen",
    "snapshot",
]
