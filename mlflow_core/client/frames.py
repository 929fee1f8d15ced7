"""Answers as pandas and Arrow have them; either package is imported only where somebody asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["arrow_table", "data_frame"]

# pandas' own types that hold null without becoming another type.
_PANDAS = {
    "bool": "boolean",
    "int64": "Int64",
    "int32": "Int32",
    "float64": "float64",
    "float32": "float32",
    "string": "string",
    "timestamp": "datetime64[us, UTC]",
}


def data_frame(columns: Mapping[str, Sequence[Any]], types: Mapping[str, str]) -> pd.DataFrame:
    """Return columns as a DataFrame.

    Args:
        columns: Python's values, None for null.
        types: The server's name of each column's type.

    Raises:
        ImportError: pandas is not installed.
    """
    import pandas as pd

    return pd.DataFrame(
        {
            name: pd.Series(list(some), dtype=_PANDAS.get(types[name], "object"))
            for name, some in columns.items()
        }
    )


def arrow_table(columns: Mapping[str, Sequence[Any]], types: Mapping[str, str]) -> pa.Table:
    """Return columns as an Arrow table; see ``data_frame``.

    Raises:
        ImportError: pyarrow is not installed.
    """
    import pyarrow as pa

    plain = {
        "bool": pa.bool_(),
        "int64": pa.int64(),
        "int32": pa.int32(),
        "float64": pa.float64(),
        "float32": pa.float32(),
        "string": pa.string(),
        "bytes": pa.binary(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "uuid": pa.uuid(),
        "map<string,string>": pa.map_(pa.string(), pa.string()),
    }

    def kind(name: str) -> Any:
        item = name.removeprefix("list<").removesuffix(">") if name.startswith("list<") else None
        return plain[name] if item is None else pa.list_(plain[item])

    return pa.table({name: pa.array(list(some), kind(types[name])) for name, some in columns.items()})
