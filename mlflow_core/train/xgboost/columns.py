"""What XGBoost reads beside the features: label, weight, queries, bounds and further targets, and what they must hold.

The checks look at the shards' summaries, so that what would end the training in its first round is told before a rank
starts. How the columns become arrays is said here too, once for the training rows and the validation rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import XGBoost
from mlflow_core.train.data.label import LabelProfile, check_label, check_weights
from mlflow_core.train.data.preprocess import GREATEST
from mlflow_core.train.data.profile import ShardProfile, merge_further

__all__ = ["Columns", "check_columns", "columns_of"]

_RANGES: Final[Mapping[str, tuple[float, float, str]]] = {
    "reg:logistic": (0.0, 1.0, "a share between 0 and 1"),
    "reg:gamma": (math.ulp(0.0), math.inf, "a positive number"),
    "reg:tweedie": (0.0, math.inf, "a number that is not negative"),
    "reg:squaredlogerror": (math.nextafter(-1.0, 0.0), math.inf, "a number above -1"),
    "count:poisson": (0.0, math.inf, "a number that is not negative"),
    "rank:ndcg": (0.0, 31.0, "a grade from 0 to 31"),
    "rank:map": (0.0, 1.0, "0 or 1"),
    "rank:pairwise": (0.0, math.inf, "a grade that is not negative"),
}


@dataclass(frozen=True)
class Columns:
    """The columns beside the features, and what is made of them.

    Args:
        label: The dataset's label.
        weight: Column of each row's weight.
        bounds: Columns of the ends of a censored label.
        targets: Label columns beside ``label``.
        class_weights: A further weight by the label's value.
    """

    label: str
    weight: str | None = None
    bounds: tuple[str, str] | None = None
    targets: tuple[str, ...] = ()
    class_weights: tuple[tuple[float, float], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns to read, each once."""
        more = (self.weight,) if self.weight is not None else ()
        return tuple(dict.fromkeys((self.label, *more, *(self.bounds or ()), *self.targets)))

    @property
    def weighs(self) -> bool:
        """Whether ``arrays`` has a weight for each row."""
        return self.weight is not None or bool(self.class_weights)

    def arrays(self, values: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The columns of some rows as XGBoost names them.

        Args:
            values: What the matrix has of them, (n, columns) float32, in the order of ``names``.

        Returns:
            ``label`` (n,) or (n, targets), and as far as they are set ``weight``, ``label_lower_bound`` and
            ``label_upper_bound``, each (n,).
        """
        of = {name: np.ascontiguousarray(values[:, place]) for place, name in enumerate(self.names)}
        made = {"label": of[self.label]}
        if self.targets:
            made["label"] = np.column_stack([of[name] for name in (self.label, *self.targets)])
        weight = None if self.weight is None else of[self.weight]
        if self.class_weights:
            classes, weights = (
                np.array(one, dtype=np.float32) for one in zip(*self.class_weights, strict=True)
            )
            of_class = weights[np.searchsorted(classes, of[self.label])]
            weight = of_class if weight is None else weight * of_class
        if weight is not None:
            made["weight"] = weight
        if self.bounds is not None:
            made["label_lower_bound"] = of[self.bounds[0]]
            upper = of[self.bounds[1]]
            # The matrix has the greatest float32 for an infinity.
            seen = ~np.isnan(upper) & (upper < GREATEST)
            made["label_upper_bound"] = np.where(seen, upper, np.float32(np.inf))
        return made


def columns_of(trainer: XGBoost, label: str, seen: LabelProfile) -> Columns:
    """The columns that a trainer reads, with the weights of its classes.

    Args:
        trainer: The settings.
        label: The dataset's label.
        seen: What it holds in the training part, checked.

    Raises:
        TrainError: ``class_weights`` lacks a class, or names one that is not there.
    """
    return Columns(label, trainer.weight, trainer.bounds, trainer.targets, _class_weights(trainer, seen))


def check_columns(
    trainer: XGBoost, part: str, label: str, profiles: Sequence[ShardProfile]
) -> dict[str, LabelProfile]:
    """Refuse columns that the objective cannot be trained with.

    Args:
        trainer: The settings.
        part: The part that was looked at.
        label: The dataset's label.
        profiles: One for each of its shards, with what the trainer reads beside the features.

    Returns:
        What the label and each further column hold, by name.

    Raises:
        TrainError: Names the part, the column and what is wrong with it.
    """
    found = {label: merge_further(profiles)}
    found |= {name: merge_further(profiles, name) for name in profiles[0].further} if profiles else {}
    binary = trainer.objective.startswith("binary:")
    for name in (label, *trainer.targets):
        check_label(part, name, found[name], binary=binary, classes=trainer.classes)
        _check_range(trainer, part, name, found[name])
    if trainer.weight is not None:
        check_weights(part, trainer.weight, found[trainer.weight])
    if trainer.bounds is not None:
        _check_bounds(part, trainer.bounds, found)
    return found


def _check_range(trainer: XGBoost, part: str, name: str, seen: LabelProfile) -> None:
    least, greatest, expected = _RANGES.get(trainer.objective, (-math.inf, math.inf, ""))
    if seen.least < least or seen.greatest > greatest:
        wrong = seen.least if seen.least < least else seen.greatest
        raise TrainError(
            f'label "{name}" in the part "{part}" is {wrong:g} somewhere',
            expected=f'{expected} in every row, for the objective "{trainer.objective}"',
        )


def _check_bounds(part: str, bounds: tuple[str, str], found: Mapping[str, LabelProfile]) -> None:
    lower = found[bounds[0]]
    if lower.missing or lower.infinite or lower.least < 0:
        raise TrainError(
            f'the lower bound "{bounds[0]}" in the part "{part}" is missing {lower.missing:,} times, infinite '
            f"{lower.infinite:,} times, and {lower.least:g} at the least",
            expected="a time that is not negative in every row",
        )
    upper = found[bounds[1]]
    if upper.least <= 0:
        raise TrainError(
            f'the upper bound "{bounds[1]}" in the part "{part}" is {upper.least:g} somewhere',
            expected="a positive time, not before the lower bound; null or infinite where it was not seen",
        )


def _class_weights(trainer: XGBoost, seen: LabelProfile) -> tuple[tuple[float, float], ...]:
    if trainer.class_weights is None:
        return ()
    counts = dict(seen.counts or {})
    classes = [float(one) for one in range(trainer.classes or 2)]
    if trainer.class_weights == "balanced":
        # A class that no training row has cannot be out of balance; validation rows may have it.
        share = seen.rows / max(1, len(counts))
        return tuple((one, share / counts[one] if one in counts else 1.0) for one in classes)
    given = {_class(name): weight for name, weight in trainer.class_weights.items()}
    wrong = [name for name in trainer.class_weights if _class(name) not in classes]
    lacking = [f"{one:g}" for one in classes if one not in given]
    if wrong or lacking:
        raise TrainError(
            f'class_weights names "{wrong[0]}", which is no class'
            if wrong
            else f"class_weights has no weight for the class {lacking[0]}",
            object="XGBoost",
            place=trainer.place,
            expected=f"a weight for each of {', '.join(f'{one:g}' for one in classes)}",
        )
    if not all(math.isfinite(weight) and weight >= 0 for weight in given.values()):
        raise TrainError(
            "class_weights are not all finite and not negative", object="XGBoost", place=trainer.place
        )
    return tuple(sorted(given.items()))


def _class(name: str) -> float:
    named: Mapping[str, Any] = {"false": 0.0, "true": 1.0}
    try:
        return float(named.get(name.lower(), name))
    except ValueError:
        return math.nan
