"""``mlcore features delete`` and ``mlcore features erasures``: the right to erasure, and the list of who used it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_core.cli.context import Invocation, invocation
from mlflow_core.cli.words import Values, clock_of_call, values_of_words
from mlflow_core.errors import UnknownNameError, UsageError, nearest

if TYPE_CHECKING:
    from feast import FeatureStore

    from mlflow_core.config import Clock
    from mlflow_core.metadata import ErasureRecord
    from mlflow_core.plan.erasures import KeyValue
    from mlflow_core.spec import DType, FeatureView
    from mlflow_core.workflow.erasure import Erased, Places, SourceRows

__all__ = ["delete", "erasures"]

KeyWords = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE...", help="All of the entity's key columns.", show_default=False),
]


def delete(
    context: typer.Context,
    entity: Annotated[str, typer.Argument(help="An entity, e.g. customer.")],
    values: KeyWords = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="TIME",
            help="Erase events up to this time; by default now. What later events had made is materialised anew "
            "when something happens to the entity.",
        ),
    ] = None,
) -> None:
    """Erase one entity for good: online values, cached layouts and datasets with its rows, and its events from sight.

    Example: mlcore features delete customer customer_id=4711
    """
    call = invocation(context)
    clock = clock_of_call(call, at=at)
    store = _applied(call)
    key = _key(call, entity, values_of_words(values), store)
    _confirm(call, entity, key, clock)
    from mlflow_core.workflow.erasure import erase

    places = _places(call, store, clock)
    try:
        with call.progress().stage(f"erasing one {entity}"):
            erased = erase(places, key, now_us=clock.now_us())
    finally:
        if places.backend is not None:
            places.backend.close()
    left = _left(call, store, key, erased.erasure.erased_us)
    call.result(_data(entity, erased, left), _text(entity, erased, left))


def erasures(context: typer.Context, values: Values = None) -> None:
    """List what was erased, without its keys; with KEY=VALUE words only whether that one was.

    Example: mlcore features erasures customer_id=4711
    """
    from mlflow_core.online.keys import decode_key

    call = invocation(context)
    asked = values_of_words(values)

    def meant(one: ErasureRecord) -> bool:
        shown = {name: str(value) for name, value in zip(one.columns, decode_key(one.key), strict=True)}
        return not asked or shown == asked

    found = [one for one in call.metadata.list_erasures() if meant(one)]
    data = [
        {
            "erasure": one.id,
            "columns": list(one.columns),
            "erased_us": one.erased_us,
            "recorded_us": one.recorded_us,
            "principal": one.principal,
        }
        for one in found
    ]
    rows = [
        (one.id, ", ".join(one.columns), _second(one.erased_us), _second(one.recorded_us), one.principal)
        for one in found
    ]
    if not rows and not call.json:
        call.result(data, "This one was not erased." if asked else "Nothing was erased.")
        return
    call.out.table(data, ("erasure", "key columns", "events up to", "asked for", "by"), rows)


def _applied(call: Invocation) -> FeatureStore | None:
    """Return Feast's store, None where nothing was applied: then there is nothing online."""
    from mlflow_core.feast.registry import has_registry

    return call.store if has_registry(call.repo) else None


def _key(
    call: Invocation, entity: str, given: Mapping[str, str], store: FeatureStore | None
) -> dict[str, KeyValue]:
    from mlflow_core.serve.wire import read_text

    columns = _columns(call, entity)
    wrong = [name for name in given if name not in columns]
    if wrong or len(given) < len(columns):
        missing = [name for name in columns if name not in given]
        said = f'no key column "{wrong[0]}"' if wrong else f'no value for "{missing[0]}"'
        raise UsageError(f'entity "{entity}": {said}', expected=" ".join(f"{name}=VALUE" for name in columns))
    types, key = _types(call, store), {}
    for name in columns:
        if name not in types:
            raise UsageError(
                f'no view has the key column "{name}", so nobody can say of which type it is',
                hint="Run: mlcore apply",
            )
        try:
            value = read_text(given[name], types[name])
        except ValueError:
            value = None
        if value is None:
            raise UsageError(f'"{given[name]}" cannot be a key in "{name}"', expected=str(types[name]))
        key[name] = value
    return key


def _columns(call: Invocation, entity: str) -> tuple[str, ...]:
    """The key columns of an entity, ours or Feast's."""
    known = {name: one.keys for name, one in call.project.entities.items()}
    if call.project.native:
        from feast import Entity

        known |= {one.name: (one.join_key,) for one in call.project.native if isinstance(one, Entity)}
    if entity not in known:
        raise UnknownNameError(f'there is no entity "{entity}"', hint=nearest(entity, known))
    return known[entity]


def _types(call: Invocation, store: FeatureStore | None) -> dict[str, DType]:
    """The types of key columns: as applied, else as the declarations find them in their sources."""
    from mlflow_core.algebra.types import dtype_of_arrow
    from mlflow_core.feast.kept_rows import key_types

    if store is not None and (applied := dict(key_types(store))):
        return applied
    found: dict[str, DType] = {}
    for view in call.project.views.values():
        for name in view.keys:
            found[name] = dtype_of_arrow(name, call.schemas[view.name].field(name).type)
    return found


def _confirm(call: Invocation, entity: str, key: Mapping[str, KeyValue], clock: Clock) -> None:
    if call.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("an erasure cannot be undone, and nobody is there to be asked", hint="Add --yes.")
    named = ", ".join(f"{name}={value!r}" for name, value in key.items())
    until = _second(clock.now_us())
    asked = f"Erase {entity} {named}, with all events until {until}? This cannot be undone."
    if not typer.confirm(asked, err=True):
        raise typer.Exit(1)


def _places(call: Invocation, store: FeatureStore | None, clock: Clock) -> Places:
    from pathlib import Path

    from mlflow_core.artifacts import ArtifactStore
    from mlflow_core.engine.layouts.cache import Cache
    from mlflow_core.feast.kept_rows import layout_caches, online_backend, stored_tables
    from mlflow_core.workflow.erasure import Places

    own = Cache(Path(call.settings.cache.location), call.settings.cache.limit)
    others = () if store is None else layout_caches(store.config)
    caches = {cache.folder.resolve(): cache for cache in (own, *others)}
    return Places(
        metadata=call.metadata,
        tables=() if store is None else stored_tables(store),
        backend=None if store is None else online_backend(store.config, clock),
        artifacts=ArtifactStore(call.settings.artifact_location()),
        caches=tuple(caches.values()),
    )


def _left(
    call: Invocation, store: FeatureStore | None, key: Mapping[str, KeyValue], until: int
) -> tuple[SourceRows, ...]:
    from mlflow_core.serve.features import make_importable
    from mlflow_core.workflow.erasure import rows_left

    make_importable(call.root)  # transforms of sources are the project's own code
    views = {**_native(call, store), **call.project.views}
    with call.progress().stage("looking into the sources"):
        return tuple(rows_left(views.values(), key, until, base=str(call.repo)))


def _native(call: Invocation, store: FeatureStore | None) -> dict[str, FeatureView]:
    """Feast's own views that are applied and that our engine can read."""
    if store is None or not call.project.native:
        return {}
    from mlflow_core.errors import PlanError
    from mlflow_core.plan.from_feast import view_of

    found = {}
    for view in store.registry.list_feature_views(store.project):
        try:
            found[view.name] = view_of(view, repo_path=call.repo)
        except PlanError:
            continue  # only Feast's own engines read it, and nothing of ours keeps its rows
    return found


def _data(entity: str, erased: Erased, left: tuple[SourceRows, ...]) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "entity": entity,
        "erasure": erased.erasure.id,
        "columns": list(erased.erasure.columns),
        "erased_us": erased.erasure.erased_us,
        "online": None if erased.online is None else dict(erased.online),
        "layouts": asdict(erased.layouts),
        "datasets": [asdict(one) for one in erased.datasets],
        "outputs": [asdict(one) for one in erased.outputs],
        "sources": [asdict(one) for one in left],
    }


def _text(entity: str, erased: Erased, left: tuple[SourceRows, ...]) -> str:
    from mlflow_core.config.sizes import format_size

    until = _second(erased.erasure.erased_us)
    lines = [f"erased one {entity}: no event until {until} is seen any more (erasure {erased.erasure.id})"]
    if erased.online is None:
        lines.append("online    the online store is none of ours: delete the entity there")
    else:
        told = ", ".join(f"{view} {count}" for view, count in erased.online.items())
        lines.append(f"online    values taken away: {told or 'none, no view has such keys'}")
    layouts = erased.layouts
    used = f", {layouts.in_use} in use: later run mlcore cache clean --all" if layouts.in_use else ""
    lines.append(f"layouts   {layouts.entries} removed, {format_size(layouts.bytes)}{used}")
    for one in erased.datasets:
        runs = f", used by {', '.join(one.runs)}" if one.runs else ""
        lines.append(f"dataset   {one.id} of {one.name} removed, {one.rows:,} rows were of it{runs}")
    lines += [] if erased.datasets else ["datasets  none held it"]
    if erased.outputs:
        steps = ", ".join(dict.fromkeys(one.step for one in erased.outputs))
        lines.append(f"outputs   {len(erased.outputs)} that steps made of such datasets removed: {steps}")
    for source in left:
        if source.rows is None:
            lines.append(f"source    {source.source} cannot be looked into: {source.failure}")
        else:
            where = f"{source.parts[0]}{' and others' if len(source.parts) > 1 else ''}"
            lines.append(
                f"source    {source.source} still holds {source.rows:,} rows ({where}): they are not used any more, "
                "but only you can delete them"
            )
    return "\n".join(lines)


def _second(us: int) -> str:
    """A moment for people, who do not read microseconds."""
    from mlflow_core.config.times import format_time

    return format_time(us // 1_000_000 * 1_000_000)
