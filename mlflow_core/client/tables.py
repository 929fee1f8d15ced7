"""Rows in the forms that callers have them in, as the columns that are sent: nothing of pandas or Arrow is imported.

Taken are a list of mappings, a mapping of columns, a pandas DataFrame (what it calls missing is null) and an Arrow table
or record batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    Rows: TypeAlias = (
        Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]] | pd.DataFrame | pa.Table | pa.RecordBatch
    )

__all__ = ["columns_of", "is_arrow", "rows_of"]


def rows_of(given: Rows) -> list[dict[str, Any]]:
    """Return rows as one mapping each.

    Args:
        given: Rows in one of the forms.

    Raises:
        TypeError: It is none of them.
        ValueError: Its columns have different lengths.
    """
    if _are_mappings(given):
        return [dict(row) for row in given]
    columns = columns_of(given)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def columns_of(given: Rows) -> dict[str, list[Any]]:
    """Return rows as one list of values a column; see ``rows_of``.

    Raises:
        ValueError: A row lacks what another has.
    """
    if _are_mappings(given):
        return _columns_of_mappings(given)
    frame: Any = given
    if is_arrow(frame):
        found: dict[str, list[Any]] = frame.to_pydict()
        return found
    if _is_of(frame, "pandas"):
        return {str(name): _present(frame[name]) for name in frame.columns}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"rows are a {type(given).__name__}; expected a list of mappings, a mapping of columns, a DataFrame, or "
            "an Arrow table"
        )
    columns = {name: list(values) for name, values in given.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"the columns have different lengths: {told}")
    return columns


def is_arrow(given: Any) -> bool:
    """Say whether rows are an Arrow table or record batch."""
    return _is_of(given, "pyarrow") and hasattr(given, "to_pydict")


def _are_mappings(given: Any) -> TypeGuard[Sequence[Mapping[str, Any]]]:
    return isinstance(given, Sequence) and not isinstance(given, str | bytes)


def _columns_of_mappings(given: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in given for name in row)
    for i, row in enumerate(given):
        for name in names:
            if name not in row:
                raise ValueError(
                    f'row {i} has no "{name}", which others have; None says that it is not known'
                )
    return {name: [row[name] for row in given] for name in names}


def _is_of(given: Any, package: str) -> bool:
    return type(given).__module__.partition(".")[0] == package


def _present(column: Any) -> list[Any]:
    """Return a DataFrame's column as Python values, None where pandas has NaN, NaT or NA."""
    values: list[Any] = column.astype(object).where(column.notna(), None).tolist()
    return values
