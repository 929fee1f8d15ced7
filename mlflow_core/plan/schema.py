"""Which columns come out of a view or a service, and of which type: told from declarations and source schemas."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from mlflow_core.algebra.aggregates import output_type
from mlflow_core.algebra.columns import settled_schema
from mlflow_core.algebra.expression import expression_types, holds
from mlflow_core.algebra.on_demand import infer_outputs, input_names
from mlflow_core.algebra.types import arrow_type, dtype_of_arrow
from mlflow_core.errors import MlcoreError, PlanError, SourceError, nearest
from mlflow_core.plan.problems import Problems
from mlflow_core.spec import FeatureService, FeatureView, OnDemand, WindowColumn

__all__ = ["on_demand_schema", "service_schema", "view_schema"]


def view_schema(view: FeatureView, source_schema: pa.Schema) -> pa.Schema:
    """Return a view's key columns and features with their types.

    Args:
        view: The feature view.
        source_schema: The columns of its source, as ``sources.read_schema`` tells them.

    Returns:
        Key columns, then features, in the view's order.

    Raises:
        PlanError: A key, column or condition names what the source does not have or does not fit its type; all
            such problems of the view together.
    """
    events = _events(view, source_schema)
    problems = Problems()
    fields: list[pa.Field] = []
    for key in view.keys:
        with problems.noted():
            fields.append(pa.field(key, _key(view, key, events)))
    windows = {window.name: window for window in view.windows}
    for name in view.feature_names:
        with problems.noted(object=view.title, place=view.place):
            kind = _window(view, windows[name], events) if name in windows else _latest(view, name, events)
            fields.append(pa.field(name, kind))
    problems.raise_all()
    return pa.schema(fields)


def on_demand_schema(on_demand: OnDemand, views: Mapping[str, pa.Schema]) -> pa.Schema:
    """Return the features that an on-demand function gives, with their types.

    Args:
        on_demand: The declaration; its function is called on empty arrays.
        views: View name -> schema.

    Raises:
        PlanError: The function fails on empty arrays, or returns what no feature can be.
    """
    types = {
        name: views[view].field(feature).type for (view, feature), name in input_names(on_demand).items()
    }
    types |= {name: arrow_type(dtype) for name, dtype in on_demand.request.items()}
    try:
        outputs = infer_outputs(on_demand, types)
        for name, kind in outputs.items():
            dtype_of_arrow(name, kind)
    except MlcoreError as error:
        raise PlanError(
            error.what,
            object=on_demand.title,
            place=on_demand.place,
            expected=error.expected,
            hint=error.hint,
        ) from error
    return pa.schema(list(outputs.items()))


def service_schema(service: FeatureService, views: Mapping[str, pa.Schema]) -> pa.Schema:
    """Return the features of a service in output order: stored ones, then those computed on demand.

    Args:
        service: The feature service.
        views: View name -> schema.

    Raises:
        PlanError: An on-demand function cannot be typed, or two features have one name.
    """
    fields = [
        views[selection.view.name].field(name)
        for selection in service.selections
        for name in selection.features
    ]
    owners = {name: one.view.name for one in service.selections for name in one.features}
    for one in service.on_demand:
        for field in on_demand_schema(one, views):
            if field.name in owners:
                raise PlanError(
                    f'"{field.name}" is a feature of both "{owners[field.name]}" and "{one.name}"',
                    object=service.title,
                    place=service.place,
                    hint="Name one of them otherwise.",
                )
            owners[field.name] = one.name
            fields.append(field)
    return pa.schema(fields)


def _events(view: FeatureView, source_schema: pa.Schema) -> pa.Schema:
    """The source's columns and the view's own, which replace those of the same name."""
    schema = settled_schema(source_schema)
    try:
        types = expression_types(schema, view.columns, title=view.title)
    except PlanError as error:
        raise _at(view, error) from error
    kept = {field.name: field.type for field in schema}
    return pa.schema(list({**kept, **types}.items()))


def _key(view: FeatureView, key: str, events: pa.Schema) -> pa.DataType:
    if key in view.columns:
        # Rows are parted by key before anything is computed on them.
        raise _wrong(
            view,
            f'key column "{key}" is computed by an expression',
            expected="a column of the source",
            hint="Add it where the data is made, or in the query of an SqlSource.",
        )
    if key not in events.names:
        entity = f'entity "{view.entity.name}"' if view.entity else "its entity"
        raise _missing(view, f'key column "{key}" of {entity}', key, events)
    kind = events.field(key).type
    if kind == pa.uuid() or any(
        matches(kind) for matches in (pa.types.is_integer, pa.types.is_string, pa.types.is_binary)
    ):
        return kind
    raise _wrong(view, f'key column "{key}" is {kind}', expected="integers, strings, bytes or UUIDs")


def _latest(view: FeatureView, name: str, events: pa.Schema) -> pa.DataType:
    if name not in events.names:
        raise _missing(view, f'feature "{name}"', name, events)
    kind = events.field(name).type
    try:
        dtype_of_arrow(name, kind)
    except SourceError as error:
        raise _wrong(view, error.what, expected=error.expected, hint=error.hint) from error
    return kind


def _window(view: FeatureView, window: WindowColumn, events: pa.Schema) -> pa.DataType:
    title = f'{view.title}: feature "{window.name}"'
    if window.column != "*" and window.column not in events.names:
        raise _missing(view, f'aggregate column "{window.column}"', window.column, events)
    kind = None if window.column == "*" else events.field(window.column).type
    try:
        if window.where is not None:
            holds(events.empty_table(), window.where, title=f"{title}: where")
        output = output_type(window.function, kind, title=title)
        dtype_of_arrow(window.name, output)
    except PlanError as error:
        raise _at(view, error) from error
    except SourceError as error:
        raise _wrong(view, error.what, expected=error.expected, hint=error.hint) from error
    return output


def _wrong(
    view: FeatureView, what: str, *, expected: str | None = None, hint: str | None = None
) -> PlanError:
    return PlanError(what, object=view.title, place=view.place, expected=expected, hint=hint)


def _missing(view: FeatureView, what: str, name: str, events: pa.Schema) -> PlanError:
    hint = nearest(name, events.names)
    return _wrong(view, f'{what} is neither in source "{view.source.name}" nor in its columns', hint=hint)


def _at(view: FeatureView, error: PlanError) -> PlanError:
    if error.place is not None:
        return error
    return PlanError(
        error.what, object=error.object, place=view.place, expected=error.expected, hint=error.hint
    )
