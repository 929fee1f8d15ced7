"""Erasing an entity through the server: which key columns a path means, and everything that is kept of the entity.

What is done is ``mlflow_core.workflow.erasure``'s: the erasure is recorded first, with the caller as its principal, then
online values, cached layouts and datasets are taken away. Sources are not looked at here; ``mlcore features delete`` is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feast.feature_view import DUMMY_ENTITY_ID

from mlflow_core.algebra.types import dtype_of_arrow
from mlflow_core.artifacts import ArtifactStore
from mlflow_core.config.principal import Principal
from mlflow_core.config.times import format_time
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.errors import MlcoreError
from mlflow_core.feast.erasures import erasures_of_records
from mlflow_core.metadata import MetadataStore
from mlflow_core.online.backend import OnlineTable
from mlflow_core.online.layout import table_of
from mlflow_core.plan.erasures import Erasures, KeyValue
from mlflow_core.plan.from_feast import SPEC_TAG
from mlflow_core.serve.catalogue import Catalogue
from mlflow_core.serve.features import Features
from mlflow_core.serve.messages import json_object
from mlflow_core.serve.refusal import Refusal, unknown
from mlflow_core.serve.request import mistyped
from mlflow_core.serve.wire import read_value
from mlflow_core.spec import DType
from mlflow_core.workflow.erasure import Erased, Places, erase

__all__ = ["Entities", "Kept", "entities_of", "erased", "key_asked"]


@dataclass(frozen=True)
class Kept:
    """What a project keeps of its entities beside the online store.

    Attributes:
        metadata: The project's metadata, as the server itself has it open.
        acting: Opens it for a principal, with whom changes are recorded; who opens it closes it.
        artifacts: Where datasets are kept.
        caches: Where layouts are kept.
    """

    metadata: MetadataStore
    acting: Callable[[Principal], MetadataStore]
    artifacts: ArtifactStore
    caches: Sequence[Cache] = ()

    def erasures(self) -> Erasures:
        """Return who was erased, as of now.

        Raises:
            MetadataError: The list cannot be read: whom it would hide is not known then.
        """
        return erasures_of_records(self.metadata.list_erasures())


@dataclass(frozen=True)
class Entities:
    """The entities of a registry version.

    Attributes:
        columns: Key columns by the entity's name.
        types: The type of each key column.
        tables: Where rows of views are kept online.
    """

    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    types: Mapping[str, DType] = field(default_factory=dict)
    tables: tuple[OnlineTable, ...] = ()

    def meant(self, text: str) -> tuple[str, ...]:
        """Return the key columns that a path names: those of an entity, or the columns themselves.

        Args:
            text: An entity's name, or key columns with commas between them.

        Raises:
            Refusal: There is neither (404).
        """
        if text in self.columns:
            return self.columns[text]
        columns = tuple(dict.fromkeys(text.split(",")))
        for name in columns:
            if name not in self.types:
                known = [*self.columns, *self.types]
                raise unknown(f'there is no entity or key column "{name}"', name, known, status=404)
        return columns


def entities_of(catalogue: Catalogue) -> Entities:
    """Return the entities of what is served.

    Raises:
        Refusal: A view cannot be understood, so that nobody knows what it keeps (503).
    """
    columns: dict[str, tuple[str, ...]] = {}
    types: dict[str, DType] = {}
    tables: list[OnlineTable] = []
    for name, message in sorted(catalogue.snapshot.views.items()):
        try:
            view, schema = catalogue.view(name)
        except MlcoreError as error:
            what = f'feature view "{name}" cannot be understood, so nothing was erased'
            raise Refusal(what, status=503, name=name, hint="Run: mlcore features delete.") from error
        tables.append(table_of(view))
        types |= {key: dtype_of_arrow(key, schema.field(key).type) for key in view.keys}
        if SPEC_TAG in message.spec.tags:
            if view.entity is not None:
                columns[view.entity.name] = tuple(view.keys)
        elif len(message.spec.entities) == len(view.keys) == 1:
            columns[message.spec.entities[0]] = tuple(view.keys)
    for name, message in sorted(catalogue.snapshot.on_demand.items()):
        if message.spec.write_to_online_store:
            keys = (one.name for one in message.spec.entity_columns if one.name != DUMMY_ENTITY_ID)
            tables.append(OnlineTable(name, tuple(keys)))
    return Entities(columns, types, tuple(tables))


def key_asked(entities: Entities, text: str, body: bytes) -> dict[str, KeyValue]:
    """Read the key of a deletion.

    Args:
        entities: What there is.
        text: What the path names.
        body: JSON: ``{"column": value, ...}``.

    Raises:
        Refusal: No such entity (404), no JSON (400), or not exactly its key columns with values of their types (422).
    """
    columns = entities.meant(text)
    told = ", ".join(f'"{name}": {entities.types[name]}' for name in columns)
    expected = f"{{{told}}}"
    given = json_object(body, expected)
    for name in given:
        if name not in columns:
            raise unknown(
                f'"{name}" is no key column of {text}', name, columns, status=422, expected=expected
            )
    return {name: _value(name, entities.types[name], given, expected) for name in columns}


def erased(
    features: Features, kept: Kept, entities: Entities, key: Mapping[str, KeyValue], principal: Principal
) -> dict[str, Any]:
    """Erase an entity, blocking; harmless to repeat.

    Args:
        features: The project's features, with their store and clock.
        kept: What else the project keeps.
        entities: The views to erase from.
        key: The entity's key columns with their values.
        principal: Who asks for it; recorded.

    Returns:
        What was taken away where, as JSON data; the key is not in it.

    Raises:
        MlcoreError: As ``mlflow_core.workflow.erasure.erase``.
    """
    with kept.acting(principal) as metadata:
        places = Places(metadata, entities.tables, features.store, kept.artifacts, kept.caches)
        return _told(erase(places, key, now_us=features.clock.now_us()))


def _value(name: str, dtype: DType, given: Mapping[str, Any], expected: str) -> KeyValue:
    if given.get(name) is None:
        said = "is null" if name in given else "is missing"
        raise Refusal(f'key column "{name}" {said}', name=name, expected=expected)
    try:
        value: KeyValue = read_value(given[name], dtype)
    except ValueError:
        raise mistyped(name, dtype, [given[name]]) from None
    return value


def _told(done: Erased) -> dict[str, Any]:
    return {
        "erasure": done.erasure.id,
        "columns": list(done.erasure.columns),
        "erased_until": format_time(done.erasure.erased_us),
        "online": dict(done.online or {}),
        "layouts": done.layouts.entries + done.layouts.in_use,
        "datasets": [one.id for one in done.datasets],
        "outputs": len(done.outputs),
    }
