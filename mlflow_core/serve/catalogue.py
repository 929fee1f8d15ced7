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
from mlflow_core.online.form import StoredForm
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.plan.from_feast import CODE_TAG, ON_DEMAND_TAG, SPEC_TAG
from mlflow_core.plan.retrieval import OnDemandRead, RetrievalPlan, ViewRead
from mlflow_core.serve.refusal import Refusal, unknown
from mlflow_core.serve.registry import Snapshot
from mlflow_core.serve.registry_code import dtype_of_message, run_from_registry
from mlflow_core.serve.served import ServedReader, ServedService, served_reader
from mlflow_core.spec import FeatureView, OnDemand, Selection
from mlflow_core.spec.code import code_digest
from mlflow_core.telemetry import get_logger

__all__ = ["Catalogue", "compile_catalogue"]

_log = get_logger("serve")
_REFERENCES = 500  # lists of references that stay compiled


@dataclass(frozen=True)
class Catalogue:
    """All services of one registry version.

    Attributes:
        digest: The registry version.
        services: What is served, by name.
        problems: Service -> why its version in the registry is not the one that is served.
        snapshot: The registry's content.
    """

    digest: str = ""
    services: Mapping[str, ServedService] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    snapshot: Snapshot = field(default_factory=Snapshot)
    compiler: _Compiler | None = None
    compiled: dict[tuple[str, ...], ServedService] = field(default_factory=dict)

    def view(self, name: str) -> tuple[FeatureView, pa.Schema]:
        """Return the declaration of a view of the registry, with the types of its key columns and features.

        Raises:
            PlanError: There is none of that name.
            MlcoreError: It cannot be understood.
        """
        if self.compiler is None:
            raise PlanError(f'view "{name}" is not in the registry')
        return self.compiler.view(name)

    def kept(self, references: tuple[str, ...]) -> ServedService | None:
        """Return references as a service if they have been compiled; which takes too long to be done in between."""
        found = self.compiled.get(references)
        if found is None:
            # Kept without repeats: what stays in memory must not grow with what a caller thinks of.
            found = self.compiled.get(tuple(dict.fromkeys(references)))
        return found

    def of_references(self, references: tuple[str, ...]) -> ServedService:
        """Return references ``view:feature`` as a service; those asked for again are compiled once.

        Raises:
            Refusal: A view or feature is not in the registry (404), or the text is no reference (422).
            MlcoreError: It does not compile.
        """
        found = self.kept(references)
        if found is None:
            references = tuple(dict.fromkeys(references))
            if self.compiler is None:
                raise unknown(f'there is no feature "{references[0]}"', references[0], (), status=404)
            found = self.compiler.references(references)
            if len(self.compiled) >= _REFERENCES:
                self.compiled.clear()
            self.compiled[references] = found
        return found


def compile_catalogue(
    snapshot: Snapshot,
    *,
    form: StoredForm,
    allow_registry_code: bool = False,
    previous: Catalogue | None = None,
) -> Catalogue:
    """Compile every service of the registry.

    Args:
        snapshot: The registry's content.
        form: How the online store keeps rows.
        allow_registry_code: Run native on-demand transformations, whose code is in the registry.
        previous: What is served now; a service that does not compile any more stays as it is there.

    Returns:
        The catalogue, with the reasons of what did not compile.
    """
    compiler = _Compiler(snapshot, form, allow_registry_code)
    services: dict[str, ServedService] = {}
    problems: dict[str, str] = {}
    for name in sorted(snapshot.services):
        try:
            services[name] = compiler.service(name)
        except Exception as error:
            # The boundary between services: whatever is wrong with one must not take the others with it.
            if not isinstance(error, MlcoreError):
                _log.exception("a service cannot be compiled", extra={"service": name})
            problems[name] = (
                str(error) if isinstance(error, MlcoreError) else f"{type(error).__name__}: {error}"
            )
            if previous is not None and name in previous.services:
                services[name] = previous.services[name]
    return Catalogue(snapshot.digest, services, problems, snapshot, compiler)


class _Compiler:
    """Compiles services of one registry version; views and on-demand functions are looked up once."""

    def __init__(self, snapshot: Snapshot, form: StoredForm, allow_registry_code: bool) -> None:
        self._snapshot = snapshot
        self._form = form
        self._allow_registry_code = allow_registry_code
        self._views: dict[str, tuple[FeatureView, pa.Schema]] = {}
        self._on_demand: dict[str, OnDemand] = {}

    def service(self, name: str) -> ServedService:
        message = self._snapshot.services[name]
        stored, computed = self._projections(name, message.spec.features)
        order = [(one.alias, feature) for one in stored for feature in one.features]
        return self._served(name, message.spec.description, stored, computed, order)

    def references(self, references: tuple[str, ...]) -> ServedService:
        """Compile references, none of them twice, as if they were a service."""
        wanted: dict[str, list[str]] = {}
        for reference in references:
            view, colon, feature = reference.partition(":")
            if not colon or not view or not feature or "@" in view:
                raise Refusal(
                    f'"{reference}" is no feature reference', name=reference, expected="view:feature"
                )
            self._check_known(reference, view, feature)
            wanted.setdefault(view, []).append(feature)
        stored = [
            _Stored(view, view, tuple(features))
            for view, features in wanted.items()
            if view in self._snapshot.views
        ]
        computed = [
            (view, view, tuple(features))
            for view, features in wanted.items()
            if view in self._snapshot.on_demand
        ]
        order = [
            (view, feature)
            for view, _, feature in (reference.partition(":") for reference in references)
            if view in self._snapshot.views
        ]
        return self._served(", ".join(references), "", stored, computed, order)

    def _check_known(self, reference: str, view: str, feature: str) -> None:
        views, on_demand = self._snapshot.views, self._snapshot.on_demand
        message = views.get(view) or on_demand.get(view)
        if message is None:
            known = {*views, *on_demand}
            raise unknown(f'"{reference}": there is no feature view "{view}"', view, known, status=404)
        features = [column.name for column in message.spec.features]
        if feature not in features:
            raise unknown(
                f'"{reference}": feature view "{view}" has no feature "{feature}"',
                feature,
                features,
                status=404,
            )

    def _served(
        self,
        name: str,
        description: str,
        stored: list[_Stored],
        computed: list[_Computed],
        order: list[tuple[str, str]],
    ) -> ServedService:
        on_demand = [(self._function(one), alias, features) for one, alias, features in computed]
        reads = self._reads(stored, [one for one, _, _ in on_demand])
        schemas = {read.view.name: self.view(read.view.name)[1] for read in reads}
        columns = {column: schemas[read.view.name].field(key) for read in reads for key, column in read.keys}
        keys = {column: dtype_of_arrow(column, key.type) for column, key in columns.items()}
        request = {field: dtype for one, _, _ in on_demand for field, dtype in one.request.items()}
        versions = {one.alias: self._snapshot.views[one.view].meta.current_version_number for one in stored}

        def reader(full: bool) -> ServedReader:
            return served_reader(_plan(order, reads, on_demand, full), schemas, keys, versions, self._form)

        return ServedService(
            name=name,
            description=description,
            keys=keys,
            request=request,
            columns={**request, **keys},
            short=reader(full=False) if _distinct(stored, on_demand) else None,
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
            message = self._snapshot.views.get(view)
            # A stream feature view that is asked for whole is asked for its keys, too.
            keys = () if message is None else {column.name for column in message.spec.entity_columns}
            features = tuple(column.name for column in one.feature_columns if column.name not in keys)
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
            view, _ = self.view(one.view)
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

    def view(self, name: str) -> tuple[FeatureView, pa.Schema]:
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
            return run_from_registry(message, lambda view: self.view(view)[0])
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
            view, _ = self.view(selected.view)
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
    order: list[tuple[str, str]],
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
        columns=tuple(named(alias, feature) for alias, feature in order),
    )


def _without_prefix(read: ViewRead) -> ViewRead:
    return replace(read, prefix=None)


def _distinct(stored: list[_Stored], on_demand: list[tuple[OnDemand, str, tuple[str, ...]]]) -> bool:
    names = [feature for one in stored for feature in one.features]
    names += [feature for _, _, features in on_demand for feature in features]
    return len(set(names)) == len(names)


def _schema(message: Any) -> pa.Schema:
    keys = [one for one in message.spec.entity_columns if one.name != DUMMY_ENTITY_ID]
    return pa.schema(
        [(one.name, arrow_type(dtype_of_message(one))) for one in (*keys, *message.spec.features)]
    )
