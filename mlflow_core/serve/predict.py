"""Predictions: a registered model, the features that it reads, and the check that these are still the same ones.

A model remembers its feature service and the fingerprint of everything that its features are computed from. One
whose features are gone or mean something else by now is refused by name, since its answer would look right.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.errors import ServeError, TrainError, nearest
from mlflow_core.metadata import MetadataStore
from mlflow_core.metadata.records import ModelVersion
from mlflow_core.online.answer import Answer
from mlflow_core.serve.features import Features
from mlflow_core.serve.refusal import Refusal
from mlflow_core.serve.served import ServedService
from mlflow_core.train.models.model import Model

__all__ = ["LoadedModel", "Models", "Prediction", "Predictor"]


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory, and which one it is.

    Attributes:
        reference: What it was asked for by: ``name``, ``name@alias`` or ``name:version``.
        version: Its record.
        model: The model.
    """

    reference: str
    version: ModelVersion
    model: Model

    @property
    def title(self) -> str:
        """How messages call it."""
        return f'model "{self.version.title}"'

    @property
    def alias(self) -> str | None:
        """The alias it was asked for by, else the first that points at it."""
        asked = self.reference.partition("@")[2]
        return asked or next(iter(self.version.aliases), None)

    def describe(self) -> dict[str, Any]:
        """Return what an answer says of it."""
        return {"name": self.version.model, "version": self.version.version, "alias": self.alias}


@dataclass(frozen=True)
class Prediction:
    """What a model says of some rows.

    Attributes:
        values: One prediction a row; of a model with several outputs a list a row.
        model: Who says it.
        answer: The features it was made from.
    """

    values: list[float] | list[list[float]]
    model: LoadedModel
    answer: Answer

    def describe(self) -> dict[str, Any]:
        """Return what an answer says: the values, the names of several outputs, the model."""
        outputs = self.model.model.outputs
        named = {"outputs": list(outputs)} if outputs else {}
        return {"predictions": self.values, **named, "model": self.model.describe()}


class Models:
    """Registered models, loaded when they are first asked for and kept.

    Args:
        metadata: Where models are registered.
        artifacts: Where their content is.
    """

    def __init__(self, metadata: MetadataStore, artifacts: ArtifactStore) -> None:
        self._metadata = metadata
        self._artifacts = artifacts
        self._lock = threading.Lock()
        self._loaded: dict[str, LoadedModel] = {}
        self._by_digest: dict[str, Model] = {}

    def get(self, reference: str) -> LoadedModel:
        """Return a model.

        Args:
            reference: ``name``, ``name@alias`` or ``name:version``.

        Raises:
            UnknownNameError: There is no such model, version or alias.
            ArtifactError: Its content is missing or damaged.
            TrainError: Its content is no model of this version of the package.
        """
        found = self._loaded.get(reference)
        return found if found is not None else self._load(reference)

    def names(self) -> list[str]:
        """Return the names of all registered models."""
        return self._metadata.list_models()

    def refresh(self) -> list[str]:
        """Look up again what was asked for so far, and load what an alias points at now.

        Returns:
            The references that mean another version than before. One that cannot be looked up or loaded keeps
            the version it had, and raises when the others are done.
        """
        moved: list[str] = []
        failed: Exception | None = None
        for reference, before in list(self._loaded.items()):
            try:
                after = self._load(reference)
            except Exception as error:
                failed = error
                continue
            if after.version.version != before.version.version:
                moved.append(reference)
        if failed is not None:
            raise failed
        return moved

    def close(self) -> None:
        """Close the metadata store."""
        self._metadata.close()

    def _load(self, reference: str) -> LoadedModel:
        version = self._metadata.resolve_model(reference)
        with self._lock:
            model = self._by_digest.get(version.artifact_digest)
            if model is None:
                model = self._fetch(version.artifact_digest)
                self._by_digest[version.artifact_digest] = model
            self._loaded[reference] = LoadedModel(reference, version, model)
            return self._loaded[reference]

    def _fetch(self, digest: str) -> Model:
        with tempfile.TemporaryDirectory(prefix="mlcore-model-") as folder:
            return Model.load(self._artifacts.fetch_tree(digest, Path(folder) / "model"))


class Predictor:
    """Predictions from online features; the same for the command and for HTTP.

    Args:
        features: The project's features.
        models: The project's models.
    """

    def __init__(self, features: Features, models: Models) -> None:
        self.features = features
        self.models = models

    def service_of(self, model: LoadedModel) -> ServedService:
        """Return the feature service that a model reads, if it still means what it meant in training.

        Raises:
            Refusal: The service, a view or a feature is gone, or is computed otherwise by now (409); names all.
        """
        name = model.model.metadata.get("service")
        if not isinstance(name, str):
            raise ServeError("does not say which feature service it reads", object=model.title)
        try:
            service = self.features.service(name)
        except Refusal as error:
            hint = "Apply the project that it was trained with, or train it again."
            raise _outdated(model, f'reads service "{name}", but {error.what}', hint) from error
        wrong = _changed(model.model.metadata.get("fingerprints", {}), service) + _gone(model.model, service)
        if wrong:
            what = f'was trained on other features than service "{name}" has now: {"; ".join(wrong)}'
            raise _outdated(
                model, what, "Train it again, or apply the declarations that it was trained with."
            )
        return service

    def predict(
        self, model: LoadedModel, columns: Mapping[str, Sequence[Any]], *, now_us: int | None = None
    ) -> Prediction:
        """Predict for checked rows.

        Args:
            model: The model.
            columns: Every key column and request field of its service; shape (n_rows,) each.
            now_us: When TTL counts, microseconds since epoch, UTC; now if None.

        Raises:
            Refusal: The model's features are gone or have changed.
            ServeError: A feature cannot be computed from what was sent.
            StoreError: The online store cannot be read.
        """
        answer = self.features.answer(self.service_of(model), columns, now_us=now_us)
        try:
            given = {name: answer.columns[name] for name in model.model.features}
            values = model.model.predict_columns(given)
        except (TrainError, KeyError) as error:
            raise ServeError(f"cannot read its features: {error}", object=model.title) from error
        return Prediction(values.tolist(), model, answer)


def _outdated(model: LoadedModel, what: str, hint: str) -> Refusal:
    return Refusal(f"{model.title} {what}", status=409, name=model.version.model, hint=hint)


def _changed(trained: Mapping[str, str], service: ServedService) -> list[str]:
    wrong = []
    for what, fingerprint in sorted(trained.items()):
        if what.startswith("service "):
            continue  # further features of a service do not matter to this model
        now = service.fingerprints.get(what)
        if now is None:
            wrong.append(f"{what} is gone")
        elif now != fingerprint:
            wrong.append(f"{what} is computed otherwise")
    return wrong


def _gone(model: Model, service: ServedService) -> list[str]:
    known = service.feature_names
    return [
        f'feature "{name}" is gone ({nearest(name, known)})' for name in model.features if name not in known
    ]
