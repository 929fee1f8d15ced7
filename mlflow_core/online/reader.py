"""The one reader: from entity rows to an answer, shared by Feast's face, the command and the server.

A reader is made once a plan. ``ask`` checks entity rows and says what to read; the store reads it, blocking or not;
``answer_of`` makes the answer of what was found. Answers stand in the order of the entity rows, duplicates
included, and all views are read in one round trip.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any, NamedTuple

import pyarrow as pa

from mlflow_core.algebra.on_demand import evaluate_on_demand, infer_outputs, input_names
from mlflow_core.algebra.types import arrow_type, dtype_of_arrow
from mlflow_core.errors import PlanError, UnknownNameError, nearest
from mlflow_core.online.answer import Answer, Status
from mlflow_core.online.backend import Ask, Found, OnlineBackend
from mlflow_core.online.entity_rows import KeyReader, checked_columns, key_reader, request_array
from mlflow_core.online.form import Packed, StoredForm
from mlflow_core.online.view_read import PreparedRead, ViewColumns, schema_of_read
from mlflow_core.plan.retrieval import OnDemandRead, RetrievalPlan
from mlflow_core.spec import DType, OnDemand

__all__ = ["Asked", "Reader"]


class Asked(NamedTuple):
    """A request on its way to the store.

    Attributes:
        n_rows: How many entity rows there are.
        asks: What the store is asked.
        rows: For each ask at which entity rows its keys stand; None if at all of them, in order.
        entity_rows: The entity rows, for on-demand features.
    """

    n_rows: int
    asks: list[Ask]
    rows: list[list[int] | None]
    entity_rows: Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class _Entity:
    """Views that are joined on the same columns: one key an entity row for all of them."""

    keys: KeyReader
    key_columns: tuple[str, ...]
    views: tuple[str, ...]
    features: tuple[tuple[str, ...], ...]
    places: tuple[int, ...]  # of the views among the plan's reads


@dataclass(frozen=True, slots=True)
class _OnDemand:
    """On-demand features with what does not change between requests: where inputs are, and the outputs' types."""

    on_demand: OnDemand
    features: tuple[str, ...]
    prefix: str | None
    stored: tuple[tuple[int, int, str], ...]  # which read, which of its features, the name the function knows

    def output(self, feature: str) -> str:
        return feature if self.prefix is None else f"{self.prefix}__{feature}"


class Reader:
    """A retrieval plan made ready to be answered many times; holds no connection and no clock.

    Args:
        plan: What is asked for.
        schemas: For each view of the plan its key columns and features with their types.
        form: How the store keeps rows.

    Raises:
        PlanError: A view has no schema, or the plan puts out what it does not read.
        StoreError: A feature has no type.
        UnknownNameError: An on-demand feature is asked for that its function does not return.
        EngineError: An on-demand function fails.
    """

    def __init__(
        self, plan: RetrievalPlan, schemas: Mapping[str, pa.Schema], form: StoredForm | None = None
    ) -> None:
        self.plan = plan
        form = form or Packed()
        self._reads = [PreparedRead(read, schema_of_read(read, schemas), form) for read in plan.reads]
        self._entities = _entities(self._reads, schemas, form)
        shown = _shown(plan)
        self._picked = _picked(plan, shown)
        self._no_times: dict[str, Sequence[int | None]] = dict.fromkeys(plan.columns, ())
        self._on_demand = [_prepared_on_demand(one, self._reads) for one in plan.on_demand]
        self._needed = tuple(
            dict.fromkeys(
                [column for read in plan.reads for _, column in read.keys]
                + [name for one in plan.on_demand for name in one.on_demand.request]
            )
        )
        self.types: dict[str, pa.DataType] = {
            name: self._reads[place].types[plan.reads[place].features[i]]
            for name, (place, i) in zip(plan.columns, shown, strict=True)
        }
        for one in self._on_demand:
            self.types |= {one.output(name): arrow_type(one.on_demand.outputs[name]) for name in one.features}

    def places(self) -> list[tuple[int, int, int, int]]:
        """Say where each of the plan's output columns comes from.

        Returns:
            For each: which of the asks reads it, which of that ask's views it is of, which of the plan's reads that is,
            and which of the read's features it is.
        """
        found = {
            place: (at, j)
            for at, entity in enumerate(self._entities)
            for j, place in enumerate(entity.places)
        }
        return [(*found[place], place, i) for place, i in _shown(self.plan)]

    @property
    def computes(self) -> bool:
        """Whether answering runs on-demand functions, whose time nobody knows."""
        return bool(self._on_demand)

    def answer(
        self, entity_rows: Mapping[str, Sequence[Any]], *, backend: OnlineBackend, now_us: int
    ) -> Answer:
        """Answer entity rows from the online store.

        Args:
            entity_rows: Key columns and request fields by name, all of one length (0 is fine).
            backend: The online store.
            now_us: The time at which TTL counts, microseconds since epoch, UTC.

        Raises:
            ServeError: A column is missing, has another length, or a value of a type that its column cannot hold.
            StoreError: The store cannot be read, or holds rows of another definition.
        """
        asked = self.ask(entity_rows)
        return self.answer_of(asked, backend.read(asked.asks), now_us=now_us)

    def ask(self, entity_rows: Mapping[str, Sequence[Any]], *, n_rows: int | None = None) -> Asked:
        """Check entity rows and say what to read for them; see ``answer``.

        Args:
            entity_rows: Key columns and request fields by name.
            n_rows: How many rows there are, of a caller who knows that every column is there and has so many.
        """
        if n_rows is None:
            n_rows = checked_columns(entity_rows, self._needed)
        asks, rows = [], []
        for entity in self._entities:
            keys, at = entity.keys(entity_rows, n_rows)
            asks.append(Ask(entity.key_columns, entity.views, keys, entity.features))
            rows.append(at)
        return Asked(n_rows, asks, rows, entity_rows)

    def answer_of(self, asked: Asked, found: Sequence[Found], *, now_us: int, times: bool = True) -> Answer:
        """Make an answer of what the store found; see ``answer``.

        Args:
            asked: What ``ask`` returned.
            found: What the store found for its asks.
            now_us: The time at which TTL counts.
            times: Whether the values' times are wanted.
        """
        columns: list[ViewColumns] = [_NOTHING] * len(self._reads)
        for entity, of_entity, rows in zip(self._entities, found, asked.rows, strict=True):
            for j, place in enumerate(entity.places):
                values = [of_key[j] for of_key in of_entity]
                columns[place] = self._reads[place].columns(values, rows, asked.n_rows, now_us, times=times)
        shown = Answer(
            self._named([of_view.values for of_view in columns]),
            self._named([of_view.statuses for of_view in columns]),
            self._named([of_view.times for of_view in columns]) if times else dict(self._no_times),
            self.types,
        )
        for one in self._on_demand:
            self._compute(one, columns, shown, asked, times)
        return shown

    def _named(self, of_views: Iterable[Iterable[Any]]) -> dict[str, Any]:
        """Return what the plan puts out of all reads' features, by output column."""
        features = chain.from_iterable(of_views)
        if self._picked is None:
            return dict(zip(self.plan.columns, features, strict=True))
        return dict(zip(self.plan.columns, map(list(features).__getitem__, self._picked), strict=True))

    def _compute(
        self, one: _OnDemand, columns: list[ViewColumns], shown: Answer, asked: Asked, times: bool
    ) -> None:
        inputs: dict[str, pa.Array] = {}
        for place, i, name in one.stored:
            read = self._reads[place]
            inputs[name] = pa.array(columns[place].values[i], read.types[read.read.features[i]])
        for name, dtype in one.on_demand.request.items():
            inputs[name] = request_array(asked.entity_rows[name], dtype, name)
        outputs = evaluate_on_demand(one.on_demand, inputs)
        for name in one.features:
            column = one.output(name)
            values = outputs[name].to_pylist()
            shown.columns[column] = values
            shown.statuses[column] = [
                Status.NULL_VALUE if value is None else Status.PRESENT for value in values
            ]
            shown.event_times[column] = [None] * len(values) if times else ()


def _entities(
    reads: Sequence[PreparedRead], schemas: Mapping[str, pa.Schema], form: StoredForm
) -> list[_Entity]:
    """Group the reads by the columns they are joined on, and their types."""
    grouped: dict[tuple[tuple[str, str, DType], ...], list[int]] = {}
    for place, prepared in enumerate(reads):
        schema = schemas[prepared.read.view.name]
        keys = [
            (key, column, dtype_of_arrow(key, schema.field(key).type)) for key, column in prepared.read.keys
        ]
        grouped.setdefault(tuple(keys), []).append(place)
    entities = []
    for joined, places in grouped.items():
        views = [reads[place].read for place in places]
        encode = form.key_encoder([(key, dtype) for key, _, dtype in joined])
        entities.append(
            _Entity(
                keys=key_reader(
                    [(column, dtype) for _, column, dtype in joined], views[0].view.title, encode
                ),
                key_columns=tuple(key for key, _, _ in joined),
                views=tuple(read.view.name for read in views),
                features=tuple(read.features for read in views),
                places=tuple(places),
            )
        )
    return entities


def _shown(plan: RetrievalPlan) -> list[tuple[int, int]]:
    """For each output column of stored features which read gives it, and which of its features it is."""
    outputs: dict[str, tuple[int, int]] = {}
    for place, read in enumerate(plan.reads):
        for i, name in enumerate(read.features):
            if name not in read.hidden:
                outputs.setdefault(read.output(name), (place, i))
    for name in plan.columns:
        if name not in outputs:
            raise PlanError(
                f'the plan puts out "{name}", which it does not read', hint=nearest(name, outputs)
            )
    return [outputs[name] for name in plan.columns]


def _picked(plan: RetrievalPlan, shown: Sequence[tuple[int, int]]) -> list[int] | None:
    """Say which of all reads' features, one after the other, are put out; None if they all are, in order."""
    starts = list(accumulate((len(read.features) for read in plan.reads), initial=0))
    picked = [starts[place] + i for place, i in shown]
    return None if picked == list(range(starts[-1])) else picked


_NOTHING = ViewColumns([], [], [])


def _prepared_on_demand(one: OnDemandRead, reads: Sequence[PreparedRead]) -> _OnDemand:
    names, stored, types = input_names(one.on_demand), [], {}
    for place, prepared in enumerate(reads):
        for i, feature in enumerate(prepared.read.features):
            name = names.get((prepared.read.view.name, feature))
            if name is not None and name not in types:
                stored.append((place, i, name))
                types[name] = prepared.types[feature]
    inferred = infer_outputs(one.on_demand, types)
    outputs = {name: dtype_of_arrow(name, kind) for name, kind in inferred.items()}
    features = one.features or tuple(outputs)
    for name in features:
        if name not in outputs:
            raise UnknownNameError(
                f'returns no "{name}"', object=one.on_demand.title, hint=nearest(name, outputs)
            )
    declared = one.on_demand.model_copy(update={"outputs": outputs})
    return _OnDemand(declared, features, one.prefix, tuple(stored))
