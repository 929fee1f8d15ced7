"""What a label holds, and whether a model can be trained on it; the same for weights and further labels.

One pass over the values, some rows at a time; the summaries of all shards are joined. Only numbers and booleans can be
labels: which number stands for which class is decided where the dataset is declared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlflow_core.errors import TrainError
from mlflow_core.train.data.preprocess import as_floats

__all__ = ["LabelProfile", "check_label", "check_number", "check_weights"]

_MAX_CLASSES = 256


@dataclass(frozen=True)
class LabelProfile:
    """What a label, or another column that a trainer reads beside the features, holds.

    Args:
        rows: How many rows.
        missing: How many are null or NaN.
        infinite: How many are infinite.
        zeros: How many are 0.
        ones: How many are 1.
        least: Least value; infinity if there is none.
        greatest: Greatest value; minus infinity if there is none.
        counts: How many rows each value has; None where there are more than 256 values.
    """

    rows: int = 0
    missing: int = 0
    infinite: int = 0
    zeros: int = 0
    ones: int = 0
    least: float = math.inf
    greatest: float = -math.inf
    counts: Mapping[float, int] | None = field(default_factory=dict)

    def joined(self, other: LabelProfile) -> LabelProfile:
        """What both hold together."""
        counts: dict[float, int] | None = None
        if self.counts is not None and other.counts is not None:
            values = sorted({*self.counts, *other.counts})
            counts = {value: self.counts.get(value, 0) + other.counts.get(value, 0) for value in values}
        return LabelProfile(
            self.rows + other.rows,
            self.missing + other.missing,
            self.infinite + other.infinite,
            self.zeros + other.zeros,
            self.ones + other.ones,
            min(self.least, other.least),
            max(self.greatest, other.greatest),
            counts if counts is not None and len(counts) <= _MAX_CLASSES else None,
        )

    def seeing(self, column: pa.ChunkedArray) -> LabelProfile:
        """What it holds together with further rows, numbers or booleans."""
        values = as_floats(column)
        known = values[~np.isnan(values)]
        counts: dict[float, int] | None = None
        if self.counts is not None:  # one that has too many values already is not looked at again
            found, times = np.unique(known, return_counts=True)
            if len(found) <= _MAX_CLASSES:
                counts = dict(zip(found.tolist(), times.tolist(), strict=True))
        return self.joined(
            LabelProfile(
                len(values),
                len(values) - len(known),
                int(np.isinf(known).sum()),
                int((known == 0).sum()),
                int((known == 1).sum()),
                float(known.min(initial=math.inf)),
                float(known.max(initial=-math.inf)),
                counts,
            )
        )


def check_label(
    part: str, name: str, label: LabelProfile, *, binary: bool = False, classes: int | None = None
) -> None:
    """Refuse a label that no model can be trained on.

    Args:
        part: The part it was seen in.
        name: Its column.
        label: What it holds there.
        binary: Whether it must be 0 or 1, with both present.
        classes: How many classes it has: each value must be one of 0 to classes - 1, and more than one present.

    Raises:
        TrainError: The part is empty; the label is null, NaN or infinite somewhere, holds other values than it may,
            or is of one class.
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
    if classes is not None:
        _check_classes(name, label, classes, where)
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


def check_weights(part: str, name: str, weights: LabelProfile) -> None:
    """Refuse weights that are missing, infinite, negative, or all 0.

    Args:
        part: The part they were seen in.
        name: Their column.
        weights: What it holds there.

    Raises:
        TrainError: Says how many are not what they should be.
    """
    where = f'in the part "{part}" ({weights.rows:,} rows)'
    if weights.missing or weights.infinite:
        raise TrainError(
            f'weight "{name}" {where} is null or NaN {weights.missing:,} times '
            f"and infinite {weights.infinite:,} times",
            expected="a finite number in every row, not negative",
        )
    if weights.least < 0:
        raise TrainError(
            f'weight "{name}" {where} is {weights.least:g} somewhere',
            expected="numbers that are not negative",
        )
    if weights.rows and weights.greatest == 0:
        raise TrainError(f'weight "{name}" {where} is 0 in every row', expected="a positive one somewhere")


def check_number(what: str, name: str, type_: pa.DataType, path: Path) -> None:
    """Refuse a column that is not of numbers or booleans.

    Args:
        what: What it is to the trainer, for the error: ``label``, ``column``.
        name: Its name.
        type_: Its Arrow type.
        path: The shard.

    Raises:
        TrainError: Names the column, its type and the shard.
    """
    of = type_.value_type if pa.types.is_dictionary(type_) else type_
    readable = (
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_null,
    )
    if not any(one(of) for one in readable):
        raise TrainError(
            f'{what} "{name}" is of type {type_}', place=str(path), expected="a boolean or a number"
        )


def _check_classes(name: str, label: LabelProfile, classes: int, where: str) -> None:
    allowed = range(classes)
    wrong = None if label.counts is None else [value for value in label.counts if value not in allowed]
    if wrong is None or wrong:
        raise TrainError(
            f'label "{name}" {where} has '
            + ("more than 256 values" if wrong is None else f"the value {wrong[0]:g}"),
            expected=f"a class, 0 to {classes - 1}, in every row",
        )
    if len(label.counts or ()) == 1:
        raise TrainError(
            f'label "{name}" {where} is {label.least:g} in every row',
            expected="more than one class",
            hint="Look at the label's expression, or move the cuts of the split.",
        )
