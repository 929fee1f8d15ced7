"""What can be asked for: each feature service of the registry, compiled so that a request only has to be answered.

Compiling happens once a registry version, service by service. One that no longer compiles does not take the
others with it: what was served of it before goes on being served, and the reason is kept to be shown. On-demand
functions are imported from the project's own package by the path that the registry names, and refused where
their code is not the code that was applied. Nothing here reads the online store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
from feast import FeatureView as FeastView
from feast.feature_view import DUMMY_ENTITY_ID

from mlflow_core.algebra.on_demand import load_on_demand
from mlflow_core.algebra.types import arrow_type, dtype_of_arrow
from mlflow_core.errors import MlcoreError, PlanError, nearest
from mlflow_core.feast.stored_view import stored_view
from mlflow_core.online.answer import Reader
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.plan.from_feast import CODE_TAG, ON_DEMAND_TAG, SPEC_TAG
from mlflow_core.plan.retrieval import OnDemandRead, RetrievalPlan, ViewRead
from mlflow_core.serve.registry import Snapshot
from mlflow_core.serve.registry_code import dtype_of_message, run_from_registry
from mlflow_core.spec import DType, FeatureView, OnDemand, Selection
from mlflow_core.spec.code import code_digest

__all__ = ["Catalogue", "ServedService", "compile_catalogue"]


@dataclass(frozen=True)
class ServedService:
    """One feature service, ready to be answered.

    Attributes:
        name: The service.
        description: One sentence.
        keys: Key columns of its entities and their types.
        request: Request fields of its on-demand features and their types.
        short: Its reader with plain feature names; None where two features have one name.
        full: Its reader with names ``{view}__{feature}``.
        fingerprints: ``view NAME`` or ``on_demand NAME`` -> fingerprint of what is computed.
    """

    name: str
    description: str
    keys: Mapping[str, DType]
    request: Mapping[str, DType]
    short: Reader | None
    full: Reader
    fingerprints: Mapping[str, str]

    @property
    def columns(self) -> dict[str, DType]:
        """All columns that a row of a request may have; a key wins over a request field of its name."""
        return {**self.request, **self.keys}

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features in output order, under their plain names."""
        plan = (self.short or self.full).plan
        return (*plan.columns, *(name for one in plan.on_demand for name in one.features))

    def describe(self) -> dict[str, Any]:
        """Return its entry in the catalogue."""
        return {
            "name": self.name,
            "description": self.description,
            "entities": {name: str(dtype) for name, dtype in self.keys.items()},
            "request": {name: str(dtype) for name, dtype in self.request.items()},
            "features": list(self.feature_names),
        }


@dataclass(frozen=True)
class Catalogue:
    """All services of one registry version.

    Attributes:
        digest: The registry version.
        services: What is served, by name.
        problems: Service -> why its version in the registry is not the one that is served.
    """

    digest: str = ""
    services: Mapping[str, ServedService] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


def compile_catalogue(
    snapshot: Snapshot,
    *,
    allow_registry_code: bool = False,
    previous: Catalogue | None = None,
) -> Catalogue:
    """Compile every service of the registry.

    Args:
        snapshot: The registry's content.
        allow_registry_code: Run native on-demand transformations, whose code is in the registry.
        previous: What is served now; a service that does not compile any more stays as it is there.

    Returns:
        The catalogue, with the reasons of what did not compile.
    """
    compiler = _Compiler(snapshot, allow_registry_code)
    services: dict[str, ServedService] = {}
    problems: dict[str, str] = {}
    for name in sorted(snapshot.services):
        try:
            services[name] = compiler.service(name)
        except MlcoreError as error:
            problems[name] = str(error)
            if previous is not None and name in previous.services:
                services[name] = previous.services[name]
    return Catalogue(snapshot.digest, services, problems)


class _Compiler:
    """Compiles services of one registry version; views and on-demand functions are looked up once."""

    def __init__(self, snapshot: Snapshot, allow_registry_code: bool) -> None:
        self._snapshot = snapshot
        self._allow_registry_code = allow_registry_code
        self._views: dict[str, tuple[FeatureView, pa.Schema]] = {}
        self._on_demand: dict[str, OnDemand] = {}

    def service(self, name: str) -> ServedService:
        message = self._snapshot.services[name]
        stored, computed = self._projections(name, message.spec.features)
        on_demand = [(self._function(one), alias, features) for one, alias, features in computed]
        reads = self._reads(stored, [one for one, _, _ in on_demand])
        schemas = {read.view.name: self._view(read.view.name)[1] for read in reads}
        keys = {column: schemas[read.view.name].field(key) for read in reads for key, column in read.keys}

        def reader(full: bool) -> Reader:
            return Reader(_plan(stored, reads, on_demand, full), schemas)

        return ServedService(
            name=name,
            description=message.spec.description,
            keys={column: dtype_of_arrow(column, key.type) for column, key in keys.items()},
            request={field: dtype for one, _, _ in on_demand for field, dtype in one.request.items()},
            short=reader(full=False) if _distinct(stored) else None,
            full=reader(full=True),
            fingerprints={
                **{f"view {read.view.name}": fingerprint(read.view) for read in reads},
                **{
                    f"on_demand {one.name}": fingerprint(one)
                    for one, _, _ in on_demand
                    if ":" in one.import_path
                },
            },
        )

    def _projections(self, service: str, projections: Iterable[Any]) -> tuple[list[_Stored], list[_Computed]]:
        stored: list[_Stored] = []
        computed: list[_Computed] = []
        for one in projections:
            view = one.feature_view_name
            alias = one.feature_view_name_alias or view
            features = tuple(column.name for column in one.feature_columns)
            if view in self._snapshot.on_demand:
                computed.append((view, alias, features))
            elif view in self._snapshot.views:
                stored.append(_Stored(view, alias, features, dict(one.join_key_map)))
            else:
                known = {*self._snapshot.views, *self._snapshot.on_demand}
                raise PlanError(
                    f'asks for view "{view}", which is not in the registry',
                    object=f'FeatureService "{service}"',
                    hint=nearest(view, known),
                )
        return stored, computed

    def _reads(self, stored: list[_Stored], on_demand: Iterable[OnDemand]) -> tuple[ViewRead, ...]:
        """Merge what is put out with what on-demand features read: one read an alias."""
        wanted: dict[str, tuple[_Stored, set[str]]] = {}
        put_out: dict[str, set[str]] = {}
        for one in stored:
            put_out.setdefault(one.alias, set()).update(one.features)
        for one in (*stored, *(_of_selection(given) for each in on_demand for given in each.inputs)):
            _, features = wanted.setdefault(one.alias, (one, set()))
            features.update(one.features)
        reads = []
        for alias, (one, features) in wanted.items():
            view, _ = self._view(one.view)
            missing = sorted(features - set(view.feature_names))
            if missing:
                raise PlanError(
                    f'has no feature "{missing[0]}"',
                    object=view.title,
                    hint=nearest(missing[0], view.feature_names),
                )
            reads.append(
                ViewRead(
                    view=view,
                    features=tuple(name for name in view.feature_names if name in features),
                    clock=view.source.clock,
                    keys=tuple((key, one.join_keys.get(key, key)) for key in view.keys),
                    prefix=alias,
                    hidden=tuple(sorted(features - put_out.get(alias, set()))),
                )
            )
        return tuple(reads)

    def _view(self, name: str) -> tuple[FeatureView, pa.Schema]:
        if name not in self._views:
            message = self._snapshot.views.get(name)
            if message is None:
                raise PlanError(
                    f'view "{name}" is not in the registry', hint=nearest(name, self._snapshot.views)
                )
            self._views[name] = (self._declared(message), _schema(message))
        return self._views[name]

    def _declared(self, message: Any) -> FeatureView:
        text = message.spec.tags.get(SPEC_TAG)
        if text is not None:
            return FeatureView.from_json(text)
        return stored_view(FeastView.from_proto(message, skip_udf=True))

    def _function(self, name: str) -> OnDemand:
        if name not in self._on_demand:
            self._on_demand[name] = self._loaded(name)
        return self._on_demand[name]

    def _loaded(self, name: str) -> OnDemand:
        message = self._snapshot.on_demand[name]
        path = message.spec.tags.get(ON_DEMAND_TAG)
        if path is None:
            if not self._allow_registry_code:
                raise PlanError(
                    "keeps its code in the registry, and whoever can write the registry could run code here",
                    object=f'OnDemandFeatureView "{name}"',
                    hint="Declare it with on_demand, or allow it with --allow-registry-code.",
                )
            return run_from_registry(message, lambda view: self._view(view)[0])
        one = self._on_registry_views(load_on_demand(path))
        applied = message.spec.tags.get(CODE_TAG)
        if applied is not None and code_digest(one.function) != applied:
            raise PlanError(
                "is not the code that was applied",
                object=one.title,
                place=one.place,
                hint="Run apply again, or start this process with the version that was applied.",
            )
        return one

    def _on_registry_views(self, one: OnDemand) -> OnDemand:
        """Let it read the views as they were applied: the module in this process may have older ones in memory."""
        inputs = []
        for given in one.inputs:
            selected = _of_selection(given)
            view, _ = self._view(selected.view)
            inputs.append(
                Selection(view=view, features=selected.features) if isinstance(given, Selection) else view
            )
        return one.model_copy(update={"inputs": tuple(inputs)})


@dataclass(frozen=True)
class _Stored:
    view: str
    alias: str
    features: tuple[str, ...]
    join_keys: Mapping[str, str] = field(default_factory=dict)


_Computed = tuple[str, str, tuple[str, ...]]


def _of_selection(given: FeatureView | Selection) -> _Stored:
    if isinstance(given, Selection):
        return _Stored(given.view.name, given.view.name, given.features)
    return _Stored(given.name, given.name, given.feature_names)


def _plan(
    stored: list[_Stored],
    reads: tuple[ViewRead, ...],
    on_demand: list[tuple[OnDemand, str, tuple[str, ...]]],
    full: bool,
) -> RetrievalPlan:
    def named(alias: str, feature: str) -> str:
        return f"{alias}__{feature}" if full else feature

    return RetrievalPlan(
        reads=reads if full else tuple(_without_prefix(read) for read in reads),
        on_demand=tuple(
            OnDemandRead(one, features, alias if full else None) for one, alias, features in on_demand
        ),
        columns=tuple(named(one.alias, feature) for one in stored for feature in one.features),
    )


def _without_prefix(read: ViewRead) -> ViewRead:
    return replace(read, prefix=None)


def _distinct(stored: list[_Stored]) -> bool:
    names = [feature for one in stored for feature in one.features]
    return len(set(names)) == len(names)


def _schema(message: Any) -> pa.Schema:
    keys = [one for one in message.spec.entity_columns if one.name != DUMMY_ENTITY_ID]
    return pa.schema(
        [(one.name, arrow_type(dtype_of_message(one))) for one in (*keys, *message.spec.features)]
    )
