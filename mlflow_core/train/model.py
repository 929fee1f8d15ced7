"""A trained model as a folder: the booster as UBJ, everything else as JSON, both under a digest.

Preprocessing belongs to the model, so serving cannot differ from training. Nothing is pickled: what a user can
upload is data, never code.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.preprocess import Preprocessing

if TYPE_CHECKING:
    import xgboost

__all__ = ["Model"]

_SCHEMA = 1
_FEW_ROWS = 4096
_BOOSTER, _FACTS, _MANIFEST = "booster.ubj", "model.json", "manifest.json"


@dataclass(frozen=True)
class Model:
    """A model that predicts one value per row.

    Args:
        preprocessing: How columns become numbers.
        label: What it predicts.
        request: Those features that come from the request.
        objective: XGBoost's name of the loss it was trained with.
        rounds: Trees in the booster.
        history: Validation metric by name, one value per round that was tried.
        notes: What training noticed about the data, a sentence each.
        metadata: JSON-able facts of whoever trained it: service name, fingerprints, dataset.
        booster_bytes: The booster as UBJ.
    """

    preprocessing: Preprocessing
    label: str
    request: tuple[str, ...]
    objective: str
    rounds: int
    history: Mapping[str, tuple[float, ...]]
    notes: tuple[str, ...]
    metadata: Mapping[str, Any]
    booster_bytes: bytes = field(repr=False)
    _booster: xgboost.Booster = field(repr=False, compare=False)

    @classmethod
    def of_booster(cls, path: Path, **facts: Any) -> Self:
        """Make a model of a booster's file and the facts around it, the fields of this class.

        Raises:
            TrainError: The file is not a booster, or reads other features.
        """
        data = path.read_bytes()
        booster = _booster(data, path)
        preprocessing: Preprocessing = facts["preprocessing"]
        if list(booster.feature_names or ()) != list(preprocessing.names):
            raise TrainError("the booster reads other features than the model says", place=str(path))
        return cls(**facts, rounds=booster.num_boosted_rounds(), booster_bytes=data, _booster=booster)

    @property
    def features(self) -> tuple[str, ...]:
        """The columns it reads, in its own order."""
        return self.preprocessing.names

    @property
    def task(self) -> Literal["classification", "regression"]:
        """Whether its values are probabilities or quantities."""
        return "classification" if self.objective.startswith("binary:") else "regression"

    @property
    def best_round(self) -> int:
        """The last round that the booster holds, from 0."""
        return self.rounds - 1

    def predict(self, table: pa.Table) -> NDArray[np.float64]:
        """Predict one value per row.

        Args:
            table: Has at least the model's features, in any order.

        Returns:
            Array (n_rows,), float64: probabilities of a binary objective, else values.

        Raises:
            TrainError: A column is missing, or is of another kind than in training.
        """
        return self.score(self.preprocessing.matrix(table))

    def predict_columns(self, columns: Mapping[str, Sequence[Any]]) -> NDArray[np.float64]:
        """Predict for a few rows of Python values, the fast way of a request.

        Args:
            columns: Values by column name, all of one length; None is missing.

        Returns:
            Array (n_rows,), equal to ``predict`` of the same values.

        Raises:
            TrainError: A column is missing, or is of another kind than in training.
        """
        return self.score(self.preprocessing.matrix_of(columns))

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predict from a matrix that ``preprocessing`` made, (n_rows, n_features)."""
        if not len(matrix):
            return np.empty(0)
        booster = self._booster if len(matrix) <= _FEW_ROWS else self._parallel
        scores = booster.inplace_predict(matrix, validate_features=False, missing=np.nan)
        return np.asarray(scores, dtype=np.float64)

    def with_metadata(self, **facts: Any) -> Model:
        """The same model with further facts."""
        return replace(self, metadata={**self.metadata, **facts})

    def gain(self) -> dict[str, float]:
        """Each feature's share of the loss that the trees removed; they add up to 1, unused features have 0."""
        scores = {
            name: float(np.sum(score))
            for name, score in self._booster.get_score(importance_type="total_gain").items()
        }
        total = sum(scores.values()) or 1.0
        return {name: scores.get(name, 0.0) / total for name in self.features}

    def save(self, folder: Path) -> Path:
        """Write the model into a folder, which is made or replaced as a whole.

        Returns:
            The folder, with ``booster.ubj``, ``model.json`` and ``manifest.json``.
        """
        aside = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        files = {_BOOSTER: self.booster_bytes, _FACTS: self._facts()}
        for name, data in files.items():
            (aside / name).write_bytes(data)
        digests = {name: f"sha256:{hashlib.sha256(data).hexdigest()}" for name, data in files.items()}
        (aside / _MANIFEST).write_bytes(_json({"schema": _SCHEMA, "files": digests}))
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
        return folder

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a model that ``save`` wrote.

        Raises:
            TrainError: A file is missing, damaged, or of a format this version does not know.
        """
        manifest = _read_json(folder / _MANIFEST)
        _check_schema(manifest, folder / _MANIFEST)
        for name in (_BOOSTER, _FACTS):
            data = _read(folder / name)
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            if manifest.get("files", {}).get(name) != digest:
                raise TrainError(
                    "the file is not the one that was saved: its digest differs from the manifest",
                    place=str(folder / name),
                    hint="Fetch the model again.",
                )
        facts = _read_json(folder / _FACTS)
        _check_schema(facts, folder / _FACTS)
        return cls.of_booster(
            folder / _BOOSTER,
            preprocessing=Preprocessing.from_json(facts["features"]),
            label=facts["label"],
            request=tuple(facts["request"]),
            objective=facts["objective"],
            history={metric: tuple(values) for metric, values in facts["history"].items()},
            notes=tuple(facts["notes"]),
            metadata=facts["metadata"],
        )

    @cached_property
    def _parallel(self) -> xgboost.Booster:
        """The booster with all threads. For a few rows, waking threads takes longer than the trees."""
        booster = self._booster.copy()
        booster.set_param({"nthread": 0})
        return booster

    def _facts(self) -> bytes:
        return _json(
            {
                "schema": _SCHEMA,
                "kind": "xgboost",
                "objective": self.objective,
                "task": self.task,
                "rounds": self.rounds,
                "label": self.label,
                "request": list(self.request),
                "features": self.preprocessing.to_json(),
                "history": {metric: list(values) for metric, values in self.history.items()},
                "notes": list(self.notes),
                "metadata": dict(self.metadata),
            }
        )


def _booster(data: bytes, path: Path) -> xgboost.Booster:
    import xgboost

    try:
        return xgboost.Booster({"nthread": 1}, model_file=bytearray(data))
    except xgboost.core.XGBoostError as error:
        from mlflow_core.train.rank import reason

        raise TrainError(f"is not a booster: {reason(error)}", place=str(path)) from None


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise TrainError("there is no such file, so this is not a model's folder", place=str(path)) from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = orjson.loads(_read(path))
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
