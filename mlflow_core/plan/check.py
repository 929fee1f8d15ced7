"""Whether declarations fit together and fit the data: names, columns, types, clocks. Reads schemas, never rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import pyarrow as pa

from mlflow_core.algebra.types import TIME, arrow_type
from mlflow_core.errors import PlanError, nearest
from mlflow_core.plan.dataset import plan_dataset
from mlflow_core.plan.problems import Problems
from mlflow_core.plan.project import Project
from mlflow_core.plan.retrieval import clock_of, plan_retrieval
from mlflow_core.plan.schema import on_demand_schema, service_schema, view_schema
from mlflow_core.spec import Drifted, FeatureService, LogisticRegression, Source, TrainingPipeline

__all__ = ["check_project"]

ReadSchema = Callable[[Source, str], pa.Schema]


def check_project(project: Project, read_schema: ReadSchema) -> Mapping[str, pa.Schema]:
    """Check a project across its objects and against its data.

    Args:
        project: The loaded project.
        read_schema: ``sources.read_schema``: reads a source's columns, given the source and the folder that
            relative paths start from.

    Returns:
        View name -> schema of key columns, then features.

    Raises:
        PlanError: What does not fit; several problems come in one error, one line each.
        SourceError: The only problem is a source that cannot be read.
    """
    problems = Problems()
    schemas = _sources(project, read_schema, problems)
    views = _views(project, schemas, problems)
    typed = _on_demand(project, views, problems)
    for service in project.services.values():
        if _known(service, views, typed):
            with problems.noted(object=service.title, place=service.place):
                _service(service, views)
    for pipeline in project.pipelines.values():
        with problems.noted(object=pipeline.title, place=pipeline.place):
            _pipeline(pipeline, schemas, views, typed, problems)
    problems.raise_all()
    return views


def _sources(project: Project, read_schema: ReadSchema, problems: Problems) -> dict[str, pa.Schema]:
    schemas: dict[str, pa.Schema] = {}
    for source in project.sources.values():
        with problems.noted(object=source.title, place=source.place):
            schema = _schema(source, read_schema, project)
            schemas[source.name] = schema
            for error in _roles(source, schema):
                problems.add(error)
    return schemas


def _schema(source: Source, read_schema: ReadSchema, project: Project) -> pa.Schema:
    try:
        return read_schema(source, str(project.repo))
    except PlanError as error:
        readers = [view.title for view in project.views.values() if view.source.name == source.name]
        if source.transform is None or not readers:
            raise
        raise PlanError(
            f"{error.what}; read by {', '.join(readers)}",
            object=error.object,
            place=error.place,
            expected=error.expected,
            hint=error.hint,
        ) from error


def _roles(source: Source, schema: pa.Schema) -> Iterable[PlanError]:
    """The columns that a source gives a meaning exist and can have it."""
    time = ("a time", lambda kind: kind == TIME)
    roles = {
        "event_time": time,
        "known_at": time,
        "created": ("a time or integer", lambda kind: kind == TIME or pa.types.is_integer(kind)),
        "event_id": ("integers, strings, bytes or UUIDs", _is_identity),
        "deleted": ("a boolean", pa.types.is_boolean),
    }
    for field, (expected, fits) in roles.items():
        column = getattr(source, field)
        if column is None:
            continue
        what = hint = None
        if column not in schema.names:
            what, hint = f'field "{field}": there is no column "{column}"', nearest(column, schema.names)
        elif not fits(schema.field(column).type):
            what = f'field "{field}": column "{column}" is {schema.field(column).type}'
        if what is not None:
            wanted = None if hint else expected
            yield PlanError(what, object=source.title, place=source.place, expected=wanted, hint=hint)


def _is_identity(kind: pa.DataType) -> bool:
    fits = (pa.types.is_integer, pa.types.is_string, pa.types.is_binary)
    return kind == pa.uuid() or any(one(kind) for one in fits)


def _views(project: Project, schemas: Mapping[str, pa.Schema], problems: Problems) -> dict[str, pa.Schema]:
    views: dict[str, pa.Schema] = {}
    for view in project.views.values():
        if view.source.name in schemas:
            with problems.noted(object=view.title, place=view.place):
                views[view.name] = view_schema(view, schemas[view.source.name])
    return views


def _on_demand(project: Project, views: Mapping[str, pa.Schema], problems: Problems) -> dict[str, pa.Schema]:
    typed: dict[str, pa.Schema] = {}
    for one in project.on_demand.values():
        if all(view.name in views for view in one.views):
            with problems.noted(object=one.title, place=one.place):
                typed[one.name] = on_demand_schema(one, views)
    return typed


def _known(service: FeatureService, views: Mapping[str, object], typed: Mapping[str, object]) -> bool:
    """Whether all that a service is made of could be typed; if not, the reason was noted there."""
    stored = all(selection.view.name in views for selection in service.selections)
    return stored and all(one.name in typed for one in service.on_demand)


def _service(service: FeatureService, views: Mapping[str, pa.Schema]) -> None:
    plan = plan_retrieval(service, clock=clock_of(service))
    outputs = service_schema(service, views).names
    keys: dict[str, tuple[pa.DataType, str]] = {}
    for read in plan.reads:
        for key, column in read.keys:
            kind = views[read.view.name].field(key).type
            other, where = keys.setdefault(column, (kind, read.view.name))
            if other != kind and not (pa.types.is_integer(other) and pa.types.is_integer(kind)):
                what = f'key column "{column}" is {kind} in view "{read.view.name}" and {other} in "{where}"'
                raise service.wrong(
                    what, hint="One entity row has one value; give the key one type in both sources."
                )
    request: dict[str, str] = {}
    for one in service.on_demand:
        for name, dtype in one.request.items():
            if request.setdefault(name, dtype) != dtype:
                raise service.wrong(
                    f'request field "{name}" is {dtype} in "{one.name}" and {request[name]} in another'
                )
    for name in outputs:
        if name in keys or name in request:
            other_use = f"a key column of view {keys[name][1]}" if name in keys else "a field of the request"
            raise service.wrong(
                f'feature "{name}" has the name of {other_use}', hint="Name one of them otherwise."
            )


def _pipeline(
    pipeline: TrainingPipeline,
    schemas: Mapping[str, pa.Schema],
    views: Mapping[str, pa.Schema],
    typed: Mapping[str, pa.Schema],
    problems: Problems,
) -> None:
    data = pipeline.data
    sources = [data.spine.source, *([data.label.source] if data.label.source else [])]
    if not all(source.name in schemas for source in sources) or not _known(data.features, views, typed):
        return
    plan_dataset(data, lambda source: schemas[source.name], carry=pipeline.carried)
    spine, title = schemas[data.spine.source.name], pipeline.title
    for one in data.features.on_demand:
        for name, dtype in one.request.items():
            with problems.noted(object=title, place=pipeline.place):
                _fits(name, arrow_type(dtype), spine.field(name).type)
    for view in data.features.selections:
        for key in view.view.keys:
            with problems.noted(object=title, place=pipeline.place):
                _fits(key, views[view.view.name].field(key).type, spine.field(key).type)
    with problems.noted(object=title, place=pipeline.place):
        _drift(pipeline, views)
    _baselines(pipeline, views)


def _fits(name: str, wanted: pa.DataType, given: pa.DataType) -> None:
    numbers = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (wanted, given))
    if wanted != given and not numbers:
        raise PlanError(f'column "{name}" of the spine is {given}', expected=str(wanted))


def _drift(pipeline: TrainingPipeline, views: Mapping[str, pa.Schema]) -> None:
    """The features whose drift starts the pipeline exist, and can be compared."""
    when = None if pipeline.schedule is None else pipeline.schedule.when
    if not isinstance(when, Drifted):
        return
    service = pipeline.data.features
    features = service_schema(service, views)
    for name in when.features:
        if name not in features.names:
            what = f'schedule: Drifted: "{name}" is no feature of service "{service.name}"'
            raise pipeline.wrong(what, hint=nearest(name, features.names))
        if pa.types.is_nested(features.field(name).type):
            what = f'schedule: Drifted: "{name}" is {features.field(name).type}, whose drift is not measured'
            raise pipeline.wrong(what, expected="a number, a boolean or a text")
    single = sum(not pa.types.is_nested(field.type) for field in features)
    if when.at_least > single:
        raise pipeline.wrong(
            f"schedule: Drifted: at_least is {when.at_least}, and there are {single} features that can be compared"
        )


def _baselines(pipeline: TrainingPipeline, views: Mapping[str, pa.Schema]) -> None:
    service = pipeline.data.features
    request = [name for one in service.on_demand for name in one.request]
    features = [*service_schema(service, views).names, *request]
    for one in pipeline.baselines:
        if not isinstance(one, LogisticRegression):
            continue
        for column in one.columns:
            if column not in features:
                what = f'baseline LogisticRegression: "{column}" is no feature of service "{service.name}"'
                raise pipeline.wrong(what, hint=nearest(column, features))
        if not one.columns and not request:
            raise pipeline.wrong(
                "baseline LogisticRegression reads the features of the request, and there are none",
                hint='Name some with LogisticRegression(columns=["..."]).',
            )
