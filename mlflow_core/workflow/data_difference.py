"""Two training sets side by side: what is recorded of them, and each column's count, nulls and mean, part by part.

The rows are read once, by DuckDB, and only where the contents differ. Equal content is equal by its digest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from mlflow_core.artifacts import Artifact, ArtifactStore
from mlflow_core.artifacts.tree import MEDIA_TYPE as TREE_TYPE
from mlflow_core.errors import UsageError
from mlflow_core.metadata import DatasetRecord
from mlflow_core.plan.dataset import PARTS
from mlflow_core.workflow.comparison import Compared, compared, data_facts
from mlflow_core.workflow.dataset import StoredDataset, open_dataset

__all__ = ["ColumnFacts", "ColumnMove", "DataDifference", "compare_datasets", "stored_dataset"]

_OF = ("avg", "stddev_samp")
_LARGEST = 1e150  # the square of a greater one is no number, nor is one of NaN or infinity
_SAME = 1e-9  # means of the same values, summed in another order, are not farther apart


@dataclass(frozen=True)
class ColumnFacts:
    """One column of one part.

    Attributes:
        rows: Rows, nulls included.
        null_rate: Share of nulls, from 0 to 1.
        mean: Of numbers, and of booleans as 0 and 1; else None.
        std: Of the same, with n - 1; None below two values.
    """

    rows: int
    null_rate: float
    mean: float | None
    std: float | None


@dataclass(frozen=True)
class ColumnMove:
    """How a column differs; one side is None where the part or the column is not there.

    Attributes:
        part: ``train``, ``validate`` or ``test``.
        column: Its name.
        a: In the first.
        b: In the second.
    """

    part: str
    column: str
    a: ColumnFacts | None
    b: ColumnFacts | None

    @property
    def moved(self) -> bool:
        """Whether it is in one of them only, or its share of nulls or its mean differ."""
        if self.a is None or self.b is None:
            return True
        return self.a.null_rate != self.b.null_rate or not self._mean_stays

    @property
    def shift(self) -> float | None:
        """By how many standard deviations of the first its mean moved; None where that says nothing."""
        if self.a is None or self.b is None or self.a.mean is None or self.b.mean is None or not self.a.std:
            return None
        return (self.b.mean - self.a.mean) / self.a.std

    @property
    def _mean_stays(self) -> bool:
        if self.a is None or self.b is None or self.a.mean is None or self.b.mean is None:
            return (self.a and self.a.mean) == (self.b and self.b.mean)
        near = _SAME * max(self.a.std or 0.0, abs(self.a.mean))
        return math.isclose(self.a.mean, self.b.mean, rel_tol=0.0, abs_tol=near)


@dataclass(frozen=True)
class DataDifference:
    """Two training sets, fact by fact.

    Attributes:
        a: The first's record.
        b: The second's.
        facts: What is recorded of either: content, clock, rows, split, columns, sources and their files.
        columns: Every column of every part; empty where the contents are equal.
    """

    a: DatasetRecord
    b: DatasetRecord
    facts: tuple[Compared, ...]
    columns: tuple[ColumnMove, ...]

    @property
    def moved(self) -> tuple[ColumnMove, ...]:
        """The columns that moved, the one whose mean moved farthest first."""
        farthest = sorted((one for one in self.columns if one.moved), key=lambda one: -abs(one.shift or 0.0))
        return tuple(farthest)


def compare_datasets(a: DatasetRecord, b: DatasetRecord, artifacts: ArtifactStore) -> DataDifference:
    """Lay two training sets side by side.

    Args:
        a: The first.
        b: The second.
        artifacts: Where their rows are.

    Raises:
        UsageError: The rows of one were removed.
        ArtifactError: Its files are missing.
    """
    facts = tuple(compared("data", data_facts(a), data_facts(b)))
    if a.content_hash == b.content_hash:
        return DataDifference(a, b, facts, ())
    first, second = (_columns(stored_dataset(one, artifacts)) for one in (a, b))
    keys = sorted({*first, *second}, key=lambda key: (PARTS.index(key[0]), key[1]))
    moves = tuple(ColumnMove(*key, first.get(key), second.get(key)) for key in keys)
    return DataDifference(a, b, facts, moves)


def stored_dataset(record: DatasetRecord, artifacts: ArtifactStore) -> StoredDataset:
    """Open a recorded training set.

    Raises:
        UsageError: Its rows were removed, or never kept.
        ArtifactError: Its files are missing or damaged.
    """
    if record.removed_us is not None or record.artifact_digest is None or record.uri is None:
        why = record.removed_why or "they were not kept"
        raise UsageError(f"the rows of dataset {record.id} of {record.name} are not there: {why}")
    kept = Artifact(
        uri=record.uri, digest=record.artifact_digest, size=0, media_type=TREE_TYPE, name=record.name
    )
    return open_dataset(kept, artifacts)


def _columns(dataset: StoredDataset) -> dict[tuple[str, str], ColumnFacts]:
    with duckdb.connect() as connection:
        return {
            (part, name): facts
            for part, paths in dataset.data.shards.items()
            if paths
            for name, facts in _facts(connection, paths, dataset.manifest["schema"])
        }


def _facts(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], schema: Mapping[str, str]
) -> Iterator[tuple[str, ColumnFacts]]:
    files = [str(path) for path in paths]
    numeric = {
        name for name, kind in schema.items() if kind.startswith(("int", "uint", "float", "double", "bool"))
    }
    wanted = ["count(*)"]
    for name in schema:
        column = '"' + name.replace('"', '""') + '"'
        number = f"{column}::DOUBLE" if name in numeric else "NULL::DOUBLE"
        wanted += [
            f"count({column})",
            *(f"{of}({number}) FILTER (WHERE abs({number}) < {_LARGEST})" for of in _OF),
        ]
    query = f"SELECT {', '.join(wanted)} FROM read_parquet($files, union_by_name = true)"
    found = connection.execute(query, {"files": files}).fetchone()
    rows, *told = found if found is not None else (0,)
    for n, name in enumerate(schema):
        count, mean, std = told[3 * n : 3 * n + 3]
        yield name, ColumnFacts(rows, (rows - count) / rows if rows else 0.0, mean, std)
