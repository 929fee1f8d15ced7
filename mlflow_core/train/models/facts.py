"""What a model's ``model.json`` says beside what was learned, checked before anything is built from it.

A folder may come from anywhere: what is malformed is told as a ``TrainError`` with the file, whatever it would have
raised where it is used. Each kind of scorer reads its own ``scorer``; ``readable`` tells what it stumbles over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlflow_core.errors import MlcoreError, TrainError
from mlflow_core.train.data.preprocess import Preprocessing
from mlflow_core.train.models.scorer import Task

__all__ = ["Facts", "preprocessing_of", "readable"]

_LONGEST = 10_000


class Facts(BaseModel):
    """The facts, as ``Model`` names them.

    Args:
        kind: Which kind of trainer made it.
        objective: The trainer's name of the loss.
        task: What its values are.
        label: What it predicts.
        outputs: The values' names.
        request: The features that come from the request.
        features: The preprocessing.
        scorer: The scorer's own facts.
        best: Which round or epoch it is of.
        history: Validation metric by name; null where it was not a number.
        notes: What training noticed.
        metadata: Facts of whoever trained it.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    kind: str
    objective: str
    task: Task
    label: str
    outputs: list[str]
    request: list[str]
    features: list[dict[str, Any]]
    scorer: dict[str, Any]
    best: int | None = Field(ge=0)
    history: dict[str, list[Any]]
    notes: list[str]
    metadata: dict[str, Any]

    @classmethod
    def of(cls, value: Mapping[str, Any], path: Path) -> Self:
        """Check a file's content.

        Args:
            value: The JSON object.
            path: The file, for messages.

        Raises:
            TrainError: Something is missing or is not what it should be.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(one) for one in first["loc"])
            raise _unreadable(f'"{where}": {first["msg"]}', path) from None


def preprocessing_of(features: Iterable[Mapping[str, Any]]) -> Preprocessing:
    """Read a preprocessing, if its columns fit into memory.

    Args:
        features: What ``Preprocessing.to_json`` gave.

    Raises:
        TrainError: A list is said to have more elements than any has.
    """
    found = Preprocessing.from_json(features)
    for feature in found.features:
        length = feature.length
        if length is not None and not 0 < length <= _LONGEST:
            raise TrainError(
                f'feature "{feature.name}" is said to be a list of {length!r} elements',
                expected=f"a whole number from 1 to {_LONGEST:,}",
            )
    return found


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Tell what cannot be built from a file's content as a ``TrainError``.

    Args:
        path: The file, for messages.

    Raises:
        TrainError: A fact is missing or is not what whoever reads it expects.
    """
    try:
        yield
    except MlcoreError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise _unreadable(f"{type(error).__name__}: {error}", path) from error


def _unreadable(what: str, path: Path) -> TrainError:
    return TrainError(
        f"what it says of the model cannot be read: {what}",
        place=str(path),
        hint="It is damaged, or another program wrote it. Fetch the model again.",
    )
