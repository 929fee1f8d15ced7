"""``mlcore features``: what is declared in this project, and what it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_core.cli.context import Invocation, invocation
from mlflow_core.cli.features_delete import delete, erasures
from mlflow_core.cli.features_get import get

if TYPE_CHECKING:
    from mlflow_core.spec import FeatureService, FeatureView, OnDemand, WindowColumn

__all__ = ["app", "lineage", "list_features", "show"]

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def features() -> None:
    """List, show and trace features; get their values; erase an entity."""


app.command()(get)
app.command()(delete)
app.command()(erasures)


@app.command("list")
def list_features(
    context: typer.Context,
    view: Annotated[str | None, typer.Option("--view", help="Only the features of this view.")] = None,
) -> None:
    """List every feature with its type, view, entity, window, source and owner.

    Example: mlcore features list --view carrier_delay
    """
    call = invocation(context)
    rows = list(_features(call))
    if view is not None:
        _known(view, {row["view"] for row in rows}, "view")
        rows = [row for row in rows if row["view"] == view]
    call.result(rows, "\n\n".join(_grouped(rows, call.out.width)) or "There are no features.")


@app.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A view, an on-demand group, a service, or one feature.")],
) -> None:
    """Show one view, on-demand group, service or feature in full.

    Example: mlcore features show carrier_delay
    """
    from mlflow_core.cli.feature_words import facts_text, on_demand_facts, view_facts
    from mlflow_core.cli.output import table

    call = invocation(context)
    data, project = _described(call, name), call.project
    facts: Any = {key: value for key, value in data.items() if key != "features"}
    if data["kind"] == "view":
        facts = view_facts(project.views[name])
    elif data["kind"] == "on demand":
        facts = on_demand_facts(project.on_demand[name])
    text, rows = facts_text(facts, call.out.width), data.get("features")
    if isinstance(rows, list):
        shown = [(row["name"], row["type"], row["window"]) for row in rows]
        text += "\n\n" + table(("feature", "type", "window"), shown, width=call.out.width)
    call.result(data, text)


@app.command()
def lineage(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="A source, view, service, pipeline, on-demand group or feature.")
    ],
) -> None:
    """Show what something is made of, and what is made of it.

    Example: mlcore features lineage flights
    """
    from mlflow_core.plan.lineage import lineage as lineage_of

    call = invocation(context)
    whole = lineage_of(call.project)
    owner = _view_of_feature(call, name) or name
    up, down = whole.upstream(owner), whole.downstream(owner)
    data = {"name": name, "upstream": [str(one) for one in up], "downstream": [str(one) for one in down]}
    text = [name if owner == name else f"{name} (of {owner})"]
    text += ["made of:", *(f"  {one}" for one in up)] if up else ["made of nothing else"]
    text += ["used by:", *(f"  {one}" for one in down)] if down else ["used by nothing"]
    call.result(data, "\n".join(text))


def _grouped(rows: list[dict[str, Any]], width: int) -> Iterator[str]:
    """Lay features out by view: what they share once, then a line for each."""
    name_width = max((len(row["name"]) for row in rows), default=0)
    for view, own in groupby(rows, key=itemgetter("view")):
        features = list(own)
        facts = ["native Feast view"] if features[0]["native"] else []
        facts += [f"of {features[0]['entity']}"] if features[0]["entity"] else []
        facts += [f"from {features[0]['source']}"] if features[0]["source"] else []
        facts += [f"owner {features[0]['owner']}"] if features[0]["owner"] else []
        lines = [f"{view}  ({', '.join(facts)})"]
        for row in features:
            head = f"  {row['name']:{name_width}}  {row['type']:9}  "
            lines += fill(
                row["window"], width, initial_indent=head, subsequent_indent=" " * len(head)
            ).splitlines()
        yield "\n".join(lines)


def _features(call: Invocation) -> Iterator[dict[str, Any]]:
    from mlflow_core.algebra.types import dtype_of_arrow

    for _, view in sorted(call.project.views.items()):
        schema = call.schemas[view.name]
        for feature, agg in _columns(view):
            yield {
                "name": feature,
                "type": str(dtype_of_arrow(feature, schema.field(feature).type)),
                "view": view.name,
                "entity": view.entity.name if view.entity else "",
                "window": _window(agg),
                "source": view.source.name,
                "owner": view.owner,
                "native": False,
            }
    for _, one in sorted(call.project.on_demand.items()):
        for feature, kind in _on_demand_types(call, one).items():
            yield {
                "name": feature,
                "type": str(dtype_of_arrow(feature, kind)),
                "view": one.name,
                "entity": "",
                "window": "on demand",
                "source": ", ".join(
                    [*(view.name for view in one.views), *(["request"] if one.request else [])]
                ),
                "owner": one.owner,
                "native": False,
            }
    yield from _native_features(call)


def _native_features(call: Invocation) -> Iterator[dict[str, Any]]:
    """Yield the features of Feast's own views, with Feast's names of their types."""
    if not call.project.native:  # then Feast need not be imported
        return
    from feast.base_feature_view import BaseFeatureView
    from feast.feature_view import DUMMY_ENTITY_NAME

    views = [one for one in call.project.native if isinstance(one, BaseFeatureView)]
    for view in sorted(views, key=lambda one: one.name):
        source = getattr(view, "stream_source", None) or getattr(view, "batch_source", None)
        for feature in view.features:
            yield {
                "name": feature.name,
                "type": str(feature.dtype).lower(),
                "view": view.name,
                "entity": ", ".join(n for n in getattr(view, "entities", ()) if n != DUMMY_ENTITY_NAME),
                "window": "on demand" if source is None else "latest",
                "source": "" if source is None else source.name,
                "owner": view.owner,
                "native": True,
            }


def _columns(view: FeatureView) -> Iterator[tuple[str, WindowColumn | None]]:
    windows = {column.name: column for column in view.windows}
    for name in view.feature_names:
        yield name, windows.get(name)


def _window(column: WindowColumn | None) -> str:
    if column is None:
        return "latest"
    parts = [f"{column.function} of {column.column} over {column.over}"]
    parts += [f"{column.offset} before"] if column.offset else []
    parts += [f"where {column.where}"] if column.where else []
    return ", ".join(parts)


def _on_demand_types(call: Invocation, one: OnDemand) -> dict[str, Any]:
    from mlflow_core.algebra.on_demand import infer_outputs
    from mlflow_core.plan.stored_form import input_types

    return dict(infer_outputs(one, input_types(one, call.schemas)))


def _described(call: Invocation, name: str) -> dict[str, Any]:
    import orjson

    rows = list(_features(call))
    project = call.project
    if name in project.services:
        return _described_service(project.services[name], rows)
    for kind, declared in (("view", project.views), ("on demand", project.on_demand)):
        if name in declared:
            spec = declared[name]
            fields = orjson.loads(spec.canonical_json())
            listed = [row for row in rows if row["view"] == name]
            return {
                "kind": kind,
                **fields,
                "declared at": spec.place,
                **({"features": listed} if listed else {}),
            }
    native = [row for row in rows if row["native"] and row["view"] == name]
    if native:
        shared = {key: native[0][key] for key in ("entity", "source", "owner")}
        return {"kind": "native Feast view", "name": name, **shared, "features": native}
    for row in rows:
        if row["name"] == name:
            return {"kind": "feature", **row}
    _known(
        name,
        {*project.views, *project.on_demand, *project.services}
        | {row[key] for row in rows for key in ("name", "view")},
        "feature",
    )
    raise AssertionError("a name that is known was found above")


def _described_service(service: FeatureService, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Tell what a request of the service gives and what it has to bring."""
    views = [
        *(one.view for one in service.selections),
        *(view for group in service.on_demand for view in group.views),
    ]
    stored = {(one.view.name, feature) for one in service.selections for feature in one.features}
    groups = {one.name for one in service.on_demand}
    return {
        "kind": "service",
        "name": service.name,
        "description": service.description,
        "owner": service.owner,
        "clock": service.clock,
        "declared at": service.place,
        "keys": list(dict.fromkeys(key for view in views if view.entity for key in view.entity.keys)),
        "request": {field: str(kind) for group in service.on_demand for field, kind in group.request.items()},
        "features": [row for row in rows if (row["view"], row["name"]) in stored or row["view"] in groups],
    }


def _view_of_feature(call: Invocation, name: str) -> str | None:
    """Return the view that a feature belongs to; None where the name is no stored feature's."""
    return next((view.name for view in call.project.views.values() if name in view.feature_names), None)


def _known(name: str, names: set[str], kind: str) -> None:
    from mlflow_core.errors import UnknownNameError, nearest

    if name not in names:
        raise UnknownNameError(f'there is no {kind} "{name}"', hint=nearest(name, names))
