"""A family of models in one: each row is scored by its entity's own model, or by the one of all rows.

The matrix is that of the model of all rows. A member knows the categories and the longest lists of its own rows only, so
its matrix is made of the common one: codes are looked up in its own dictionary, which leaves out what it never saw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.data.preprocess import Feature, Preprocessing
from mlflow_core.train.models.facts import preprocessing_of
from mlflow_core.train.models.scorer import Scorer

__all__ = ["EXACT_BELOW", "FamilyScorer", "Member", "key_values"]

EXACT_BELOW = 2.0**24
"""From here on float32, which a matrix is of, does not tell one whole number from the next."""

_ALL = "all"


@dataclass(frozen=True)
class Member:
    """One entity's model.

    Args:
        key: The values of the key's columns in the common matrix.
        rows: How many rows it was trained on.
        preprocessing: Its own.
        scorer: What it learned.
    """

    key: tuple[float, ...]
    rows: int
    preprocessing: Preprocessing
    scorer: Scorer


@dataclass(frozen=True)
class FamilyScorer:
    """A family.

    Args:
        preprocessing: That of the common matrix.
        by: The features that tell entities apart.
        everyone: The model of all rows.
        rest: Training rows whose entity has no model of its own.
        members: One for each entity that has one.
    """

    preprocessing: Preprocessing
    by: tuple[str, ...]
    everyone: Scorer
    rest: int
    members: tuple[Member, ...] = field(repr=False)

    @classmethod
    def load(
        cls,
        files: Mapping[str, bytes],
        facts: Mapping[str, Any],
        preprocessing: Preprocessing,
        *,
        place: str,
        load: Callable[..., Scorer],
    ) -> Self:
        """Read it back; see ``load_scorer``, which is given as ``load``."""

        def of(name: str, told: Mapping[str, Any], own: Preprocessing) -> Scorer:
            missing = [file for file in told["files"] if f"{name}-{file}" not in files]
            if missing:
                raise TrainError(f'there is no file "{name}-{missing[0]}" of the family', place=place)
            return load(
                told["kind"],
                {file: files[f"{name}-{file}"] for file in told["files"]},
                told["scorer"],
                own,
                place=f"{place}, model {name}",
            )

        members = []
        for number, told in enumerate(facts["members"]):
            own = preprocessing_of(told["features"])
            members.append(Member(tuple(told["key"]), told["rows"], own, of(_name(number), told, own)))
        everyone = of(_ALL, facts[_ALL], preprocessing)
        return cls(preprocessing, tuple(facts["by"]), everyone, facts["rest"], tuple(members))

    @property
    def kind(self) -> str:
        """``family``."""
        return "family"

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predict rows, (n_rows, width), each by its entity's model."""
        of = self.member_of(matrix)
        out: NDArray[np.float64] | None = None
        for number in np.unique(of):
            rows = np.flatnonzero(of == number)
            if number < 0:
                values = self.everyone.score(matrix[rows])
            else:
                values = self.members[number].scorer.score(self._views[number].of(matrix[rows]))
            if len(rows) == len(matrix):
                return values
            if out is None:
                out = np.empty((len(matrix), *values.shape[1:]))
            out[rows] = values
        assert out is not None  # a matrix has at least one row
        return out

    def member_of(self, matrix: NDArray[np.float32]) -> NDArray[np.int64]:
        """Which member scores each row, (n_rows,); -1 for the model of all rows.

        Numbers that float32 cannot tell apart are of no entity: another one's model would answer for it.
        """
        keys = matrix[:, [self.preprocessing.slices[name].start for name in self.by]]
        found = np.full(len(matrix), -1, dtype=np.int64)
        known = np.flatnonzero((np.abs(keys) < EXACT_BELOW).all(axis=1))  # which no missing value is
        if len(known):
            distinct, inverse = np.unique(keys[known], axis=0, return_inverse=True)
            numbers = [self._numbers.get(tuple(float(v) for v in one), -1) for one in distinct]
            found[known] = np.array(numbers, dtype=np.int64)[inverse.reshape(-1)]
        return found

    def files(self) -> Mapping[str, bytes]:
        """The files of every model, with its name before theirs."""
        found = {f"{_ALL}-{name}": data for name, data in self.everyone.files().items()}
        for number, member in enumerate(self.members):
            found |= {f"{_name(number)}-{name}": data for name, data in member.scorer.files().items()}
        return found

    def facts(self) -> Mapping[str, Any]:
        """The keys, and each model's own facts."""
        values = key_values(self.preprocessing, self.by, [one.key for one in self.members])
        return {
            "by": list(self.by),
            "rest": self.rest,
            _ALL: _facts(self.everyone),
            "members": [
                {
                    **_facts(one.scorer),
                    "key": list(one.key),
                    "entity": dict(zip(self.by, entity, strict=True)),
                    "rows": one.rows,
                    "features": one.preprocessing.to_json(),
                }
                for one, entity in zip(self.members, values, strict=True)
            ],
        }

    def importance(self) -> Mapping[str, float]:
        """The models' own, each as often as rows were scored by it in training."""
        total: dict[str, float] = {}
        models = [(self.rest, self.everyone), *((one.rows, one.scorer) for one in self.members)]
        told = [(rows, shares) for rows, scorer in models if rows and (shares := scorer.importance())]
        weight = sum(rows for rows, _ in told) or 1
        for rows, shares in told:
            for name, share in shares.items():
                total[name] = total.get(name, 0.0) + share * rows / weight
        return total

    @cached_property
    def _numbers(self) -> Mapping[tuple[float, ...], int]:
        return {one.key: number for number, one in enumerate(self.members)}

    @cached_property
    def _views(self) -> tuple[_View, ...]:
        return tuple(_View.between(self.preprocessing, one.preprocessing) for one in self.members)


def key_values(
    preprocessing: Preprocessing, by: Sequence[str], keys: Sequence[tuple[float, ...]]
) -> list[tuple[Any, ...]]:
    """Entities' values as a person knows them, from those of the matrix.

    Args:
        preprocessing: That of the matrix.
        by: The features of the key.
        keys: Their values in the matrix, one tuple an entity.
    """
    features = {feature.name: feature for feature in preprocessing.features}
    return [tuple(_value(features[name], value) for name, value in zip(by, key, strict=True)) for key in keys]


@dataclass(frozen=True)
class _View:
    """How a member's matrix is made of the common one.

    Args:
        taken: For each of its columns, the common one, or -1 where it is always missing.
        codes: By its column, its own code of each common code; NaN for a category it never saw.
        lengths: By its column of a list's length, how many elements it takes.
    """

    taken: NDArray[np.int64]
    codes: Mapping[int, NDArray[np.float32]]
    lengths: Mapping[int, int]

    @classmethod
    def between(cls, common: Preprocessing, own: Preprocessing) -> Self:
        """Compare two preprocessings of the same columns."""
        features = {feature.name: feature for feature in common.features}
        taken = np.full(own.width, -1, dtype=np.int64)
        codes: dict[int, NDArray[np.float32]] = {}
        lengths: dict[int, int] = {}
        for feature in own.features:
            theirs, ours = common.slices[feature.name], own.slices[feature.name]
            width = min(ours.stop - ours.start, theirs.stop - theirs.start)
            of = features[feature.name]
            if feature.length is not None:
                lengths[ours.stop - 1] = feature.length
                taken[ours.stop - 1] = theirs.stop - 1
            if (of.kind == "category") != (feature.kind == "category"):
                continue  # it has seen nothing but nulls of it
            # The newest of a list is last, and its length after it: the ends are aligned.
            taken[ours.stop - width : ours.stop] = np.arange(theirs.stop - width, theirs.stop)
            if feature.kind == "category":
                lookup = np.array([feature.codes.get(one, np.nan) for one in of.categories], dtype=np.float32)
                last = ours.stop - (0 if feature.length is None else 1)
                codes |= dict.fromkeys(range(ours.start, last), lookup)
        return cls(taken, codes, lengths)

    def of(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """The member's matrix, (n_rows, its own width)."""
        made = matrix[:, np.maximum(self.taken, 0)]
        made[:, self.taken < 0] = np.nan
        for column, lookup in self.codes.items():
            known = np.flatnonzero(~np.isnan(made[:, column]))
            made[known, column] = lookup[made[known, column].astype(np.int64)]
        for column, most in self.lengths.items():
            made[:, column] = np.minimum(made[:, column], most)
        return np.ascontiguousarray(made)


def _facts(scorer: Scorer) -> dict[str, Any]:
    return {"kind": scorer.kind, "scorer": dict(scorer.facts()), "files": sorted(scorer.files())}


def _name(number: int) -> str:
    return f"member{number:05d}"


def _value(feature: Feature, value: float) -> Any:
    if feature.kind == "category":
        return feature.categories[int(value)]
    if feature.kind == "bool":
        return bool(value)
    return int(value) if float(value).is_integer() else float(value)
