"""From a checked project to Feast's objects: what ``mlcore apply`` hands to Feast's registry.

Each object of ours carries its declaration in the tag ``mlcore.spec`` and its kind in ``mlcore.kind``, so that any
process that holds the registry can compute, and so that ``apply`` later removes only what it wrote. What has no
object in Feast (entities with several keys, training pipelines) travels in the tags of Feast's project. Native Feast
objects of the repository are passed through untouched. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import orjson
import pyarrow as pa
from feast import Entity as FeastEntity
from feast import FeatureService as FeastService
from feast import FeatureView as FeastView
from feast import FileSource
from feast import OnDemandFeatureView as FeastOnDemand
from feast import Project as FeastProject
from feast import types as feast_types
from feast.data_source import DataSource, RequestSource
from feast.field import Field
from feast.types import FeastType

from mlflow_core.algebra.on_demand import infer_outputs
from mlflow_core.algebra.types import dtype_of_arrow
from mlflow_core.errors import PlanError
from mlflow_core.plan.declared_source import DeclaredDataSource
from mlflow_core.plan.diff import declared_json
from mlflow_core.plan.project import Project
from mlflow_core.plan.shim import ShimTransformation
from mlflow_core.plan.stored_form import (
    KIND_TAG,
    MANIFEST_TAG,
    input_types,
    key_type,
    key_types,
    on_demand_tags,
    service_tags,
    tags_of,
)
from mlflow_core.spec import (
    DType,
    FeatureService,
    FeatureView,
    OnDemand,
    ParquetSource,
    Selection,
    Source,
)

__all__ = ["KIND_TAG", "feast_type", "identity", "to_feast"]

_FEAST: dict[DType, Any] = {
    DType.BOOL: feast_types.Bool,
    DType.INT64: feast_types.Int64,
    DType.INT32: feast_types.Int32,
    DType.FLOAT64: feast_types.Float64,
    DType.FLOAT32: feast_types.Float32,
    DType.STRING: feast_types.String,
    DType.BYTES: feast_types.Bytes,
    DType.TIMESTAMP: feast_types.UnixTimestamp,
    DType.UUID: feast_types.Uuid,
    DType.MAP: feast_types.Map,
}


def feast_type(dtype: DType) -> FeastType:
    """Return Feast's type for a spec's type."""
    return _FEAST[dtype] if dtype.item is dtype else feast_types.Array(_FEAST[dtype.item])


def identity(one: Any) -> tuple[str, str]:
    """Return under what Feast's registry keeps an object: its family (all views are one), and its name."""
    for kind in (FeastProject, FeastEntity, DataSource, FeastService):
        if isinstance(one, kind):
            return kind.__name__, one.name
    return "FeatureView", one.name


def to_feast(project: Project, schemas: Mapping[str, pa.Schema]) -> list[Any]:
    """Compile a project to Feast objects.

    Args:
        project: The loaded project.
        schemas: View name -> Arrow schema of its key columns, then its features; from ``check_project``.

    Returns:
        The Feast project, entities, data sources, views, on-demand views, services, then native objects as they
        are; the same project gives the same objects in the same order.

    Raises:
        PlanError: A key column has two types, or a name is taken by a native object.
    """
    entities = _entities(project, schemas)
    sources = {name: _source(source) for name, source in sorted(project.sources.items())}
    views = {
        name: _view(view, schemas[name], entities, sources[view.source.name])
        for name, view in sorted(project.views.items())
    }
    on_demand = {name: _on_demand(one, schemas, views) for name, one in sorted(project.on_demand.items())}
    services = [_service(one, views, on_demand) for _, one in sorted(project.services.items())]
    ours = [*_by_name(entities), *sources.values(), *views.values(), *on_demand.values(), *services]
    _refuse_taken_names(ours, project.native)
    return [_project(project), *ours, *project.native]


def _entities(project: Project, schemas: Mapping[str, pa.Schema]) -> dict[tuple[str, str], FeastEntity]:
    """Make one Feast entity for each key column, by (our entity, column); columns of one name share theirs."""
    types = key_types(project, schemas)
    single = {
        one.keys[0]: one for _, one in sorted(project.entities.items(), reverse=True) if len(one.keys) == 1
    }
    made: dict[str, FeastEntity] = {}
    by_key: dict[tuple[str, str], FeastEntity] = {}
    for name, entity in sorted(project.entities.items()):
        for key in entity.keys:
            own = entity if len(entity.keys) == 1 else single.get(key)
            feast_name = own.name if own is not None else _free_name(key, entity.name, project)
            if feast_name not in made:
                made[feast_name] = FeastEntity(
                    name=feast_name,
                    join_keys=[key],
                    value_type=feast_type(types.get(key, DType.STRING)).to_value_type(),
                    description=own.description if own else "",
                    owner=own.owner if own else "",
                    tags=tags_of(own, "entity") if own else {KIND_TAG: "entity"},
                )
            by_key[(name, key)] = made[feast_name]
    return by_key


def _free_name(key: str, entity: str, project: Project) -> str:
    return key if key not in project.entities else f"{entity}_{key}"


def _source(source: Source) -> DataSource:
    if not isinstance(source, ParquetSource):
        return DeclaredDataSource(source, tags_of(source, "source"))
    return FileSource(
        name=source.name,
        path=source.path,
        timestamp_field=source.event_time,
        created_timestamp_column=source.created or "",
        description=source.description,
        owner=source.owner,
        tags=tags_of(source, "source"),
    )


def _view(
    view: FeatureView,
    schema: pa.Schema,
    entities: Mapping[tuple[str, str], FeastEntity],
    source: DataSource,
) -> FeastView:
    keys = [Field(name=key, dtype=feast_type(key_type(key, schema))) for key in view.keys]
    return FeastView(
        name=view.name,
        entities=[entities[(view.entity.name, key)] for key in view.keys] if view.entity else [],
        schema=keys + [_field(name, schema.field(name).type) for name in view.feature_names],
        source=source,
        ttl=timedelta(microseconds=view.ttl or 0),
        online=True,
        description=view.description,
        owner=view.owner,
        tags=tags_of(view, "view"),
    )


def _field(name: str, kind: pa.DataType) -> Field:
    return Field(name=name, dtype=feast_type(dtype_of_arrow(name, kind)))


def _on_demand(
    one: OnDemand, schemas: Mapping[str, pa.Schema], views: Mapping[str, FeastView]
) -> FeastOnDemand:
    outputs = infer_outputs(one, input_types(one, schemas))
    fields = [_field(name, kind) for name, kind in outputs.items()]
    sources: list[Any] = [_projected(given, views).projection for given in one.inputs]
    if one.request:
        request = [Field(name=name, dtype=feast_type(dtype)) for name, dtype in one.request.items()]
        sources.append(RequestSource(name=f"{one.name}_request", schema=request, tags={KIND_TAG: "request"}))
    return FeastOnDemand(
        name=one.name,
        sources=sources,
        schema=fields,
        feature_transformation=ShimTransformation(one.import_path, fields),
        mode="pandas",
        description=one.description,
        owner=one.owner,
        tags=on_demand_tags(one),
    )


def _selected(given: FeatureView | Selection) -> Selection:
    return given if isinstance(given, Selection) else Selection(view=given, features=given.feature_names)


def _projected(given: FeatureView | Selection, views: Mapping[str, FeastView]) -> Any:
    selection = _selected(given)
    return views[selection.view.name][list(selection.features)]


def _service(
    service: FeatureService, views: Mapping[str, FeastView], on_demand: Mapping[str, FeastOnDemand]
) -> FeastService:
    features = [
        on_demand[one.name] if isinstance(one, OnDemand) else _projected(one, views)
        for one in service.features
    ]
    return FeastService(
        name=service.name,
        features=features,
        description=service.description,
        owner=service.owner,
        tags=service_tags(service),
    )


def _project(project: Project) -> FeastProject:
    manifest = {
        "entities": {name: declared_json(one) for name, one in project.entities.items()},
        "pipelines": {name: declared_json(one) for name, one in project.pipelines.items()},
        "step_pipelines": {name: declared_json(one) for name, one in project.step_pipelines.items()},
        "native": {f"{type(one).__name__}:{one.name}": {} for one in project.native},
        # Feast's objects say nothing of who wrote them; apply removes only those that an earlier apply wrote.
        "wrote": sorted(":".join(key) for key in _native(project)),
    }
    return FeastProject(name=project.name, tags={KIND_TAG: "project", MANIFEST_TAG: _text(manifest)})


def _native(project: Project) -> Iterator[tuple[str, str]]:
    for one in project.native:
        yield identity(one)
        for source in (getattr(one, "batch_source", None), getattr(one, "stream_source", None)):
            if source is not None:
                yield identity(source)


def _text(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _by_name(entities: Mapping[tuple[str, str], FeastEntity]) -> Iterator[FeastEntity]:
    yield from dict(sorted((one.name, one) for one in entities.values())).values()


def _refuse_taken_names(ours: list[Any], native: tuple[Any, ...]) -> None:
    taken = {identity(one) for one in ours}
    for one in native:
        if identity(one) in taken:
            raise PlanError(
                f'a native Feast {type(one).__name__} has the name "{one.name}", which a declaration has too',
                object=f'{type(one).__name__} "{one.name}"',
                hint="Rename one of them.",
            )
