"""What a trainer must know of the data before it starts, from one bounded pass over the shards.

Each shard gives a small summary, where its file is read: rows per row group, the label's values, and for the
training part each feature's nulls, extremes and categories. The summaries travel, rows never do. What no model
can be trained from is refused here; what is merely useless is noted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlflow_core.errors import TrainError
from mlflow_core.train.data import Piece, check_columns
from mlflow_core.train.preprocess import MAX_CATEGORIES, Feature, Kind, Preprocessing, as_floats, kind_of

__all__ = ["ColumnProfile", "LabelProfile", "ShardProfile", "check_label", "merge", "pieces", "profile_shard"]


@dataclass(frozen=True)
class ColumnProfile:
    """What one feature holds.

    Args:
        kind: What it is to a model; None if all is null.
        type: Its Arrow type as text.
        rows: How many rows were seen.
        missing: How many of them are null or NaN.
        infinite: How many are infinite.
        least: Least value of a number; infinity if there is none.
        greatest: Greatest value of a number; minus infinity if there is none.
        categories: The distinct strings.
    """

    kind: Kind | None
    type: str
    rows: int
    missing: int
    infinite: int = 0
    least: float = math.inf
    greatest: float = -math.inf
    categories: frozenset[str] = frozenset()

    def joined(self, other: ColumnProfile) -> ColumnProfile:
        """What both hold together."""
        return ColumnProfile(
            self.kind or other.kind,
            self.type if self.kind else other.type,
            self.rows + other.rows,
            self.missing + other.missing,
            self.infinite + other.infinite,
            min(self.least, other.least),
            max(self.greatest, other.greatest),
            self.categories | other.categories,
        )

    @property
    def constant(self) -> bool:
        """Whether all values that are not missing are equal."""
        return len(self.categories) <= 1 if self.kind == "category" else self.least == self.greatest


@dataclass(frozen=True)
class LabelProfile:
    """What the label holds.

    Args:
        rows: How many rows.
        missing: How many are null or NaN.
        infinite: How many are infinite.
        zeros: How many are 0.
        ones: How many are 1.
    """

    rows: int = 0
    missing: int = 0
    infinite: int = 0
    zeros: int = 0
    ones: int = 0

    def joined(self, other: LabelProfile) -> LabelProfile:
        """What both hold together."""
        return LabelProfile(
            self.rows + other.rows,
            self.missing + other.missing,
            self.infinite + other.infinite,
            self.zeros + other.zeros,
            self.ones + other.ones,
        )


@dataclass(frozen=True)
class ShardProfile:
    """What one shard holds.

    Args:
        path: The file.
        groups: Rows of each row group.
        label: Its label.
        columns: Its features by name; empty unless asked for.
    """

    path: Path
    groups: tuple[int, ...]
    label: LabelProfile
    columns: Mapping[str, ColumnProfile]


def profile_shard(path: Path, label: str, features: Sequence[str], *, with_features: bool) -> ShardProfile:
    """Summarise one shard, a row group at a time.

    Args:
        path: The Parquet file.
        label: The label's column.
        features: The features' columns.
        with_features: Whether to look into the features, or only check that they are there.

    Raises:
        TrainError: A column is missing, or is of a type that no trainer can read.
    """
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        check_columns(schema, (label, *features), path)
        kinds = {name: kind_of(name, schema.field(name).type) for name in features}
        if kind_of(label, schema.field(label).type) == "category":
            raise TrainError(
                f'label "{label}" is of type {schema.field(label).type}',
                place=str(path),
                expected="a boolean or a number",
            )
        groups = tuple(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
        seen = LabelProfile()
        columns: dict[str, ColumnProfile] = {}
        wanted = [label, *features] if with_features else [label]
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=list(dict.fromkeys(wanted)))
            seen = seen.joined(_label(table.column(label)))
            for name in features if with_features else ():
                here = _column(name, table.column(name), kinds[name])
                columns[name] = columns[name].joined(here) if name in columns else here
    return ShardProfile(Path(path), groups, seen, columns)


def merge(
    profiles: Sequence[ShardProfile], features: Sequence[str]
) -> tuple[Preprocessing, tuple[str, ...], LabelProfile]:
    """Join the summaries of the training part.

    Args:
        profiles: One per shard.
        features: The features in the model's order.

    Returns:
        The preprocessing with its dictionaries; notes about features that tell nothing; the label's profile.

    Raises:
        TrainError: A feature is a number here and a string there, or has too many categories.
    """
    label = LabelProfile()
    for one in profiles:
        label = label.joined(one.label)
    made, notes = [], []
    for name in features:
        joined = _joined(name, profiles)
        made.append(Feature(name, joined.kind or "number", joined.type, tuple(sorted(joined.categories))))
        notes += _notes(name, joined)
    return Preprocessing(tuple(made)), tuple(notes), label


def check_label(part: str, name: str, label: LabelProfile, *, binary: bool) -> None:
    """Refuse a label that no model can be trained on.

    Args:
        part: The part it was seen in.
        name: Its column.
        label: What it holds there.
        binary: Whether it must be 0 or 1, with both present.

    Raises:
        TrainError: The part is empty; the label is null, NaN or infinite somewhere, is not binary, or of one class.
    """
    where = f'in the part "{part}" ({label.rows:,} rows)'
    if not label.rows:
        raise TrainError(f'the part "{part}" of the dataset has no rows', hint="Move the cuts of the split.")
    if label.missing or label.infinite:
        raise TrainError(
            f'label "{name}" {where} is null or NaN {label.missing:,} times and infinite {label.infinite:,} times',
            expected="a finite value in every row",
            hint="Leave rows without a label out of the spine.",
        )
    if not binary:
        return
    if label.zeros + label.ones != label.rows:
        raise TrainError(
            f'label "{name}" {where} has {label.rows - label.zeros - label.ones:,} values other than 0 and 1',
            expected="a boolean, or 0 and 1, for a binary objective",
            hint='For other numbers use an objective such as "reg:squarederror".',
        )
    if not label.ones or not label.zeros:
        lacking, other = ("positive", label.zeros) if not label.ones else ("negative", label.ones)
        raise TrainError(
            f'label "{name}" has no {lacking} {where}: all {other:,} are {"0" if lacking == "positive" else "1"}',
            expected="both classes",
            hint="Look at the label's expression, or move the cuts of the split.",
        )


def pieces(profiles: Sequence[ShardProfile]) -> tuple[Piece, ...]:
    """The row groups of the shards, in order."""
    return tuple(
        Piece(one.path, group, 0, rows) for one in profiles for group, rows in enumerate(one.groups) if rows
    )


def _label(column: pa.ChunkedArray) -> LabelProfile:
    values = as_floats(column)
    return LabelProfile(
        len(values),
        int(np.isnan(values).sum()),
        int(np.isinf(values).sum()),
        int((values == 0).sum()),
        int((values == 1).sum()),
    )


def _column(name: str, column: pa.ChunkedArray, kind: Kind | None) -> ColumnProfile:
    type_, rows = str(column.type), len(column)
    if kind is None:
        return ColumnProfile(None, type_, rows, rows)
    if kind == "category":
        distinct = pc.unique(column.cast(pa.string())).drop_null()
        if len(distinct) > MAX_CATEGORIES:
            raise _too_many(name, len(distinct))
        return ColumnProfile(kind, type_, rows, column.null_count, categories=frozenset(distinct.to_pylist()))
    values = as_floats(column)
    known = values[~np.isnan(values)]
    if not len(known):
        return ColumnProfile(kind, type_, rows, rows)
    infinite = int(np.isinf(known).sum())
    return ColumnProfile(
        kind, type_, rows, rows - len(known), infinite, float(known.min()), float(known.max())
    )


def _joined(name: str, profiles: Sequence[ShardProfile]) -> ColumnProfile:
    joined: ColumnProfile | None = None
    for one in profiles:
        here = one.columns.get(name)
        if here is None:
            continue
        if joined is not None and joined.kind and here.kind and joined.kind != here.kind:
            raise TrainError(
                f'feature "{name}" is {here.type} here and {joined.type} in the shards before',
                place=str(one.path),
                expected="one type in all shards",
            )
        joined = here if joined is None else joined.joined(here)
    if joined is None:
        return ColumnProfile(None, "null", 0, 0)
    if len(joined.categories) > MAX_CATEGORIES:
        raise _too_many(name, len(joined.categories))
    return joined


def _too_many(name: str, count: int) -> TrainError:
    return TrainError(
        f'feature "{name}" has {count:,} different strings',
        expected=f"at most {MAX_CATEGORIES:,} categories",
        hint="It looks like a key: leave it out of the feature service, or aggregate by it instead.",
    )


def _notes(name: str, column: ColumnProfile) -> list[str]:
    if column.missing == column.rows:
        return [f'feature "{name}" is null in all {column.rows:,} training rows']
    notes = []
    if column.constant:
        notes.append(f'feature "{name}" has one value in all training rows where it is known')
    if column.infinite:
        notes.append(f'feature "{name}" is infinite in {column.infinite:,} training rows')
    return notes
