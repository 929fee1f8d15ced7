"""What a trainer must know of the data before it starts, from one bounded pass over the shards.

Each shard gives a small summary, where its file is read: rows per row group, the label's values, and for the
training part each feature's nulls, extremes, mean, variance and categories. The summaries travel, rows never do, and
what is merged from them is what one pass over all rows finds: means and variances by Chan, Golub and LeVeque,
"Updating formulae and a pairwise algorithm for computing sample variances" (1979). What no model can be trained from
is refused here; what is merely useless is noted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.data.label import LabelProfile, check_label, check_number
from mlflow_core.train.data.pieces import READ_BYTES, Piece, read_batches
from mlflow_core.train.data.preprocess import (
    GREATEST,
    MAX_CATEGORIES,
    Feature,
    Kind,
    Preprocessing,
    as_floats,
    kind_of,
    refuse_sequences,
)
from mlflow_core.train.data.sequences import item_type, lengths_of
from mlflow_core.train.data.training_set import check_columns

__all__ = [
    "MAX_LENGTH",
    "ColumnProfile",
    "LabelProfile",
    "ShardProfile",
    "check_label",
    "merge",
    "merge_further",
    "pieces",
    "profile_shard",
]

MAX_LENGTH = 1_024
"""A list longer than this is no sequence of a few events: each of its positions is a column of the matrix."""

_EXACT = 1 << 24


_AT_ONCE = (
    8  # columns: each one's decoder takes some 3 MB, which for all of a wide table is more than its rows
)


@dataclass(frozen=True)
class ColumnProfile:
    """What one feature holds; of lists, what their elements are.

    Args:
        kind: What it is to a model; None if all is null.
        type: Its Arrow type as text.
        rows: How many rows were seen.
        missing: In how many of them nothing is known: null, NaN, a list without a known element.
        infinite: How many values are infinite.
        inexact: How many values float32 does not hold as they are: integers beyond 2**24, numbers beyond its range.
        least: Least value of a number; infinity if there is none.
        greatest: Greatest value of a number; minus infinity if there is none.
        categories: The distinct strings.
        length: The most elements of a list; None if it is no list.
        count: How many finite values.
        mean: Their mean.
        squares: The sum of their squared differences from it.
    """

    kind: Kind | None
    type: str
    rows: int
    missing: int
    infinite: int = 0
    inexact: int = 0
    least: float = math.inf
    greatest: float = -math.inf
    categories: frozenset[str] = frozenset()
    length: int | None = None
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def joined(self, other: ColumnProfile) -> ColumnProfile:
        """What both hold together."""
        count = self.count + other.count
        share = other.count / count if count else 0.0
        apart = other.mean - self.mean
        lengths = [one for one in (self.length, other.length) if one is not None]
        return ColumnProfile(
            self.kind or other.kind,
            self.type if self.kind else other.type,
            self.rows + other.rows,
            self.missing + other.missing,
            self.infinite + other.infinite,
            self.inexact + other.inexact,
            min(self.least, other.least),
            max(self.greatest, other.greatest),
            self.categories | other.categories,
            max(lengths, default=None),
            count,
            self.mean + apart * share,
            self.squares + other.squares + apart * apart * self.count * share,
        )

    @property
    def constant(self) -> bool:
        """Whether all values that are not missing are equal."""
        return len(self.categories) <= 1 if self.kind == "category" else self.least == self.greatest

    @property
    def std(self) -> float:
        """Standard deviation of the finite values (of the population); exactly 0 where all are equal."""
        return 0.0 if self.constant or not self.count else math.sqrt(self.squares / self.count)


@dataclass(frozen=True)
class ShardProfile:
    """What one shard holds.

    Args:
        path: The file.
        groups: Rows of each row group.
        label: Its label; without rows where there is none.
        columns: Its features by name; empty unless asked for.
        further: The columns beside label and features that were asked for, by name.
    """

    path: Path
    groups: tuple[int, ...]
    label: LabelProfile
    columns: Mapping[str, ColumnProfile]
    further: Mapping[str, LabelProfile] = field(default_factory=dict)


def profile_shard(
    path: Path,
    label: str,
    features: Sequence[str],
    *,
    with_features: bool,
    further: Sequence[str] = (),
) -> ShardProfile:
    """Summarise one shard, some rows at a time.

    Args:
        path: The Parquet file.
        label: The label's column; empty if there is none.
        features: The features' columns.
        with_features: Whether to look into the features, or only check that they are there.
        further: Other columns of numbers that a trainer reads, such as weights.

    Raises:
        TrainError: A column is missing, or is of a type that no trainer can read.
    """
    numbers = tuple(dict.fromkeys([*([label] if label else []), *further]))
    with pq.ParquetFile(path, buffer_size=READ_BYTES) as file:
        schema = file.schema_arrow
        check_columns(schema, (*numbers, *features), path)
        for name in numbers:
            check_number("label" if name == label else "column", name, schema.field(name).type, path)
        kinds = {name: _kind(name, schema.field(name).type) for name in features}
        groups = tuple(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
        seen = dict.fromkeys(numbers, LabelProfile())
        columns: dict[str, ColumnProfile] = {}
        wanted = list(dict.fromkeys([*numbers, *(features if with_features else ())]))
        for first in range(0, len(wanted), _AT_ONCE):
            for table in read_batches(file, wanted[first : first + _AT_ONCE]):
                for name in table.column_names:
                    if name in seen:
                        seen[name] = seen[name].seeing(table.column(name))
                    if name in kinds and with_features:
                        here = _column(name, table.column(name), kinds[name])
                        columns[name] = columns[name].joined(here) if name in columns else here
    beside = {name: seen[name] for name in further}
    return ShardProfile(Path(path), groups, seen.get(label, LabelProfile()), columns, beside)


def merge(
    profiles: Sequence[ShardProfile], features: Sequence[str], *, sequences: bool = False
) -> tuple[Preprocessing, tuple[str, ...], LabelProfile]:
    """Join the summaries of the training part.

    Args:
        profiles: One per shard.
        features: The features in the model's order.
        sequences: Whether the trainer reads lists.

    Returns:
        The preprocessing with its dictionaries and statistics; notes about features that tell nothing or are not
        held exactly; the label's profile.

    Raises:
        TrainError: A feature is a number here and a string there, has too many categories or elements, or is a list
            where none is read.
    """
    label = merge_further(profiles)
    made, notes = [], []
    for name in features:
        joined = _joined(name, profiles)
        numeric = joined.kind != "category"
        made.append(
            Feature(
                name,
                joined.kind or "number",
                joined.type,
                tuple(sorted(joined.categories)),
                None if joined.length is None else max(1, joined.length),
                joined.mean if numeric else 0.0,
                joined.std if numeric else 1.0,
            )
        )
        notes += _notes(name, joined)
    preprocessing = Preprocessing(tuple(made))
    if not sequences:
        refuse_sequences(preprocessing)
    return preprocessing, tuple(notes), label


def merge_further(profiles: Sequence[ShardProfile], name: str | None = None) -> LabelProfile:
    """Join the shards' summaries of one of the further columns; of the label if ``name`` is None."""
    joined = LabelProfile()
    for one in profiles:
        joined = joined.joined(one.label if name is None else one.further[name])
    return joined


def pieces(profiles: Sequence[ShardProfile]) -> tuple[Piece, ...]:
    """The row groups of the shards, in order."""
    return tuple(
        Piece(one.path, group, 0, rows) for one in profiles for group, rows in enumerate(one.groups) if rows
    )


def _kind(name: str, type_: pa.DataType) -> Kind | None:
    return kind_of(name, item_type(type_) or type_)


def _column(name: str, column: pa.ChunkedArray, kind: Kind | None) -> ColumnProfile:
    type_, rows, length = str(column.type), len(column), None
    whose = None
    if item_type(column.type) is not None:
        lengths = lengths_of(column)
        length = int(lengths.max(initial=0))
        if length > MAX_LENGTH:
            raise _too_long(name, length)
        whose, column = np.repeat(np.arange(rows), lengths), pc.list_flatten(column)
    if kind is None:
        return ColumnProfile(None, type_, rows, rows, length=length)
    if kind == "category":
        distinct = pc.unique(column.cast(pa.string())).drop_null()
        if len(distinct) > MAX_CATEGORIES:
            raise _too_many(name, len(distinct))
        missing = rows - _rows(pc.is_valid(column).to_numpy(), whose)
        return ColumnProfile(
            kind, type_, rows, missing, categories=frozenset(distinct.to_pylist()), length=length
        )
    values = as_floats(column)
    known = finite = values
    is_known: NDArray[np.bool_] | None = None
    if not len(values) or not np.isfinite([values.min(), values.max()]).all():  # a NaN would be both
        is_known = ~np.isnan(values)
        known = values[is_known]
        finite = known[np.isfinite(known)]
    if not len(known):
        return ColumnProfile(kind, type_, rows, rows, length=length)
    least, greatest = float(known.min()), float(known.max())
    exact = _EXACT if pa.types.is_integer(_value_type(column.type)) else GREATEST
    inexact = 0
    if max(-least, greatest) > exact:
        inexact = int((np.abs(finite) > exact).sum())
        finite = np.clip(finite, -GREATEST, GREATEST)
    mean = float(finite.mean()) if len(finite) else 0.0
    # Not a dot product: BLAS would start threads for it, and wait for processors that others use. In place, because
    # fresh memory for the squares would take several times as long as squaring.
    apart = finite - mean
    squares = float(np.square(apart, out=apart).sum())
    return ColumnProfile(
        kind,
        type_,
        rows,
        missing=rows - _rows(np.ones(len(values), bool) if is_known is None else is_known, whose),
        infinite=len(known) - len(finite),
        inexact=inexact,
        least=least,
        greatest=greatest,
        length=length,
        count=len(finite),
        mean=mean,
        squares=squares,
    )


def _rows(known: NDArray[np.bool_], whose: NDArray[np.int64] | None) -> int:
    """In how many rows something is known; ``whose`` says to which row of lists each value belongs."""
    return int(known.sum()) if whose is None else len(np.unique(whose[known]))


def _value_type(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def _joined(name: str, profiles: Sequence[ShardProfile]) -> ColumnProfile:
    joined: ColumnProfile | None = None
    for one in profiles:
        here = one.columns.get(name)
        if here is None:
            continue
        if joined is not None and not _fit(joined, here):
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


def _fit(one: ColumnProfile, other: ColumnProfile) -> bool:
    """A column that is null throughout fits any other; a null list any list."""
    if "null" in (one.type, other.type):
        return True
    if (one.length is None) != (other.length is None):
        return False
    return one.kind == other.kind or one.kind is None or other.kind is None


def _too_many(name: str, count: int) -> TrainError:
    return TrainError(
        f'feature "{name}" has {count:,} different strings',
        expected=f"at most {MAX_CATEGORIES:,} categories",
        hint="It looks like a key: leave it out of the feature service, or aggregate by it instead.",
    )


def _too_long(name: str, length: int) -> TrainError:
    return TrainError(
        f'feature "{name}" has a list of {length:,} elements',
        expected=f"at most {MAX_LENGTH:,}",
        hint="Take the newest ones with last(n), or an aggregate with one value.",
    )


def _notes(name: str, column: ColumnProfile) -> list[str]:
    if column.missing == column.rows:
        return [f'feature "{name}" is null in all {column.rows:,} training rows']
    notes = []
    if column.constant:
        notes.append(f'feature "{name}" has one value in all training rows where it is known')
    values = "training rows" if column.length is None else "elements of training rows"
    if column.infinite:
        notes.append(f'feature "{name}" is infinite in {column.infinite:,} {values}')
    if column.inexact:
        notes.append(
            f'feature "{name}" is greater than what float32 holds exactly in {column.inexact:,} {values}: '
            "it is rounded, or the greatest float32 stands for it"
        )
    return notes
