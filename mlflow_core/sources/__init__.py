"""How data comes in: Parquet files and SQL tables, read in parts, always in the same form and order."""

from mlflow_core.sources.part import SourcePart
from mlflow_core.sources.read import parts, read_schema, read_table, snapshot

__all__ = ["SourcePart", "parts", "read_schema", "read_table", "snapshot"]
