"""What the registry holds of a declaration that is not the declaration: its column types, code and import path.

``mlflow_core.plan.diff`` compares declarations. The same declaration is written otherwise where the data's types
have changed, where on-demand code has moved to another file, or where somebody else wrote to the registry; a
reader would then meet what no declaration says. The truth is what ``plan.to_feast`` makes of the project now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from feast import FeatureStore
from feast.feature_view import DUMMY_ENTITY_ID

from mlflow_core.plan.diff import Change, Diff, FieldChange
from mlflow_core.plan.from_feast import SPEC_TAG
from mlflow_core.plan.to_feast import KIND_TAG

__all__ = ["stale_on_demand", "with_drift"]

_KINDS = {"view": "views", "on_demand": "on_demand", "service": "services"}


def with_drift(changes: Diff, wanted: Iterable[Any], store: FeatureStore) -> Diff:
    """Add to what was declared otherwise what is only stored otherwise.

    Args:
        changes: How the declarations differ.
        wanted: The Feast objects that apply would write.
        store: The opened store.

    Returns:
        The changes, then one for each object whose declaration is the same and whose stored form is not.
    """
    told = {(change.kind, change.name) for change in changes.changes}
    stored = _stored(store)
    drifted = [
        Change("change", kind, name, tuple(fields))
        for (kind, name), one in _by_key(wanted)
        if (kind, name) not in told
        and (kind, name) in stored
        and (fields := list(_differences(stored[(kind, name)], one)))
    ]
    return Diff((*changes.changes, *drifted))


def stale_on_demand(changes: Diff) -> tuple[str, ...]:
    """Return the on-demand views that Feast would leave as they are.

    Feast takes two of them for the same whatever their tags, owner and feature types, and ours differ in nothing
    else: their text is fixed.
    """
    return tuple(change.name for change in changes.of("change") if change.kind == "on_demand")


def _stored(store: FeatureStore) -> dict[tuple[str, str], Any]:
    registry, project = store.registry, store.project
    return dict(
        _by_key(
            [
                *registry.list_feature_views(project),
                *registry.list_on_demand_feature_views(project),
                *registry.list_feature_services(project),
            ]
        )
    )


def _by_key(objects: Iterable[Any]) -> Iterator[tuple[tuple[str, str], Any]]:
    for one in objects:
        kind = _KINDS.get(one.tags.get(KIND_TAG, ""))
        if kind is not None:
            yield (kind, one.name), one


def _differences(stored: Any, wanted: Any) -> Iterator[FieldChange]:
    for what, before, after in (
        ("type of", _types(stored), _types(wanted)),
        ("tag", _tags(stored), _tags(wanted)),
    ):
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name):
                yield FieldChange(f"{what} {name}", before.get(name), after.get(name))


def _types(one: Any) -> dict[str, str]:
    if KIND_TAG not in one.tags or one.tags[KIND_TAG] == "service":
        return {}
    keys = one.entity_columns if one.tags[KIND_TAG] == "view" else []
    return {
        field.name: field.dtype.to_value_type().name.lower()
        for field in (*keys, *one.features)
        if field.name != DUMMY_ENTITY_ID  # Feast's stand-in for the key of what has none
    }


def _tags(one: Any) -> dict[str, str]:
    return {name: text for name, text in one.tags.items() if name != SPEC_TAG}
