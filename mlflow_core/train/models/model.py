"""A trained model as a folder: what was learned in a file of its kind, everything else as JSON, all under digests.

Preprocessing belongs to the model, so serving cannot differ from training. Nothing is pickled: what a user can
upload is data, never code. What was learned is behind a ``Scorer``, one for each kind of trainer.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.data.preprocess import Preprocessing
from mlflow_core.train.models.facts import Facts, preprocessing_of, readable
from mlflow_core.train.models.loading import load_scorer
from mlflow_core.train.models.scorer import Scorer, Task

__all__ = ["Model"]

_SCHEMA = 2
_FACTS, _MANIFEST = "model.json", "manifest.json"


@dataclass(frozen=True)
class Model:
    """A model that predicts one value per row, or a named few.

    Args:
        preprocessing: How columns become numbers.
        label: What it predicts; empty where nothing is labelled.
        request: Those features that come from the request.
        objective: The trainer's name of the loss it was trained with.
        task: What its values are.
        scorer: What was learned.
        outputs: The values' names where there are several a row: classes, quantiles, targets; else empty.
        history: Validation metric by name, one value per round or epoch that was tried.
        best: Which round or epoch the model is of, from 0; None without a history.
        notes: What training noticed about the data, a sentence each.
        metadata: JSON-able facts of whoever trained it: service name, fingerprints, dataset.
    """

    preprocessing: Preprocessing
    label: str
    request: tuple[str, ...]
    objective: str
    task: Task
    scorer: Scorer
    outputs: tuple[str, ...] = ()
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    best: int | None = None
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Which kind of trainer made it: ``xgboost``, ``torch``, ``sklearn``."""
        return self.scorer.kind

    @property
    def features(self) -> tuple[str, ...]:
        """The columns it reads, in its own order."""
        return self.preprocessing.names

    def predict(self, table: pa.Table) -> NDArray[np.float64]:
        """Predict each row.

        Args:
            table: Has at least the model's features, in any order.

        Returns:
            Array (n_rows,), or (n_rows, n_outputs) where ``outputs`` names several, float64: probabilities for
            classification, else values.

        Raises:
            TrainError: A column is missing, or is of another kind than in training.
        """
        return self.score(self.preprocessing.matrix(table))

    def predict_columns(self, columns: Mapping[str, Sequence[Any]]) -> NDArray[np.float64]:
        """Predict for a few rows of Python values, the fast way of a request.

        Args:
            columns: Values by column name, all of one length; None is missing.

        Returns:
            Equal to ``predict`` of the same values.

        Raises:
            TrainError: A column is missing, or is of another kind than in training.
        """
        return self.score(self.preprocessing.matrix_of(columns))

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predict from a matrix that ``preprocessing`` made, (n_rows, width)."""
        if not len(matrix):
            return np.empty((0, len(self.outputs)) if self.outputs else 0)
        found = self.scorer.score(matrix)
        if found.size != len(matrix) * (len(self.outputs) or 1):
            raise TrainError(
                f"what was learned gives {found.size // len(matrix)} values a row, but the model names "
                f"{len(self.outputs) or 'none'}",
                expected="one value a row, or a name for each",
            )
        return found.reshape((len(matrix), len(self.outputs)) if self.outputs else len(matrix))

    def with_metadata(self, **facts: Any) -> Model:
        """The same model with further facts."""
        return replace(self, metadata={**self.metadata, **facts})

    def save(self, folder: Path) -> Path:
        """Write the model into a folder, which is made or replaced as a whole.

        Returns:
            The folder, with the scorer's files, ``model.json`` and ``manifest.json``.
        """
        aside = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        files = {**self.scorer.files(), _FACTS: self._facts()}
        for name, data in files.items():
            (aside / name).write_bytes(data)
        (aside / _MANIFEST).write_bytes(
            _json({"schema": _SCHEMA, "files": {name: _digest(data) for name, data in files.items()}})
        )
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
        return folder

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a model that ``save`` wrote.

        Raises:
            TrainError: A file is missing, damaged, or of a format this version does not know.
        """
        files = {}
        for name, digest in _manifest(folder / _MANIFEST).items():
            files[name] = data = _read(folder / name)
            if digest != _digest(data):
                raise TrainError(
                    "the file is not the one that was saved: its digest differs from the manifest",
                    place=str(folder / name),
                    hint="Fetch the model again.",
                )
        told = _json_object(files[_FACTS], folder / _FACTS)
        _check_schema(told, folder / _FACTS)
        facts = Facts.of(told, folder / _FACTS)
        with readable(folder / _FACTS):
            preprocessing = preprocessing_of(facts.features)
            scorer = load_scorer(facts.kind, files, facts.scorer, preprocessing, place=str(folder))
        return cls(
            preprocessing=preprocessing,
            label=facts.label,
            request=tuple(facts.request),
            objective=facts.objective,
            task=facts.task,
            scorer=scorer,
            outputs=tuple(facts.outputs),
            history={metric: tuple(values) for metric, values in facts.history.items()},
            best=facts.best,
            notes=tuple(facts.notes),
            metadata=facts.metadata,
        )

    def _facts(self) -> bytes:
        return _json(
            {
                "schema": _SCHEMA,
                "kind": self.kind,
                "objective": self.objective,
                "task": self.task,
                "label": self.label,
                "outputs": list(self.outputs),
                "request": list(self.request),
                "features": self.preprocessing.to_json(),
                "scorer": dict(self.scorer.facts()),
                "best": self.best,
                "history": {metric: list(values) for metric, values in self.history.items()},
                "notes": list(self.notes),
                "metadata": dict(self.metadata),
            }
        )


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise TrainError("there is no such file, so this is not a model's folder", place=str(path)) from None


def _manifest(path: Path) -> dict[str, str]:
    """The digest of each file, all of them in the manifest's own folder."""
    manifest = _json_object(_read(path), path)
    _check_schema(manifest, path)
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(isinstance(one, str) for one in files.values()):
        raise TrainError("does not say which files there are", place=str(path), expected="digests by name")
    for name in files:
        if name in (".", "..") or Path(name).name != name:
            raise TrainError(f'names "{name}", which is no file of the folder', place=str(path))
    if _FACTS not in files:
        raise TrainError(f"does not name {_FACTS}", place=str(path), hint="Fetch the model again.")
    return files


def _json_object(data: bytes, path: Path) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise TrainError(f"is not JSON: {error}", place=str(path)) from None
    if not isinstance(value, dict):
        raise TrainError("is not a JSON object", place=str(path))
    return value


def _check_schema(facts: Mapping[str, Any], path: Path) -> None:
    if facts.get("schema") != _SCHEMA:
        raise TrainError(
            f"is of schema {facts.get('schema')!r}",
            place=str(path),
            expected=f"schema {_SCHEMA}",
            hint="It was written by another version of this package.",
        )
