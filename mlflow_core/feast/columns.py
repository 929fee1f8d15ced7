"""The columns of views, on-demand features and services as Feast's objects have them, stored or about to be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from feast import FeatureStore
from feast.feature_view import DUMMY_ENTITY_ID

from mlflow_core.feast.transaction import registry_errors
from mlflow_core.plan.impact import Columns
from mlflow_core.plan.lineage import Node
from mlflow_core.plan.to_feast import KIND_TAG

__all__ = ["columns_of", "stored_columns"]

_KINDS = {"view": "views", "on_demand": "on_demand", "service": "services"}


def stored_columns(store: FeatureStore) -> Columns:
    """Return the columns of what was applied.

    Args:
        store: The opened store.

    Raises:
        RegistryError: The registry cannot be read.
    """
    registry, project = store.registry, store.project
    with registry_errors(str(store.config.registry.path)):
        return columns_of(
            [
                *registry.list_feature_views(project),
                *registry.list_on_demand_feature_views(project),
                *registry.list_feature_services(project),
            ]
        )


def columns_of(objects: Iterable[Any]) -> Columns:
    """Return the columns of Feast objects that were made of declarations; others are left out.

    Args:
        objects: Views, on-demand views, services, in any order; as ``plan.to_feast`` makes them.

    Returns:
        Of a view keys and features, of a service its features, each with Feast's name of its type.
    """
    found: dict[Node, dict[str, str]] = {}
    for one in objects:
        kind = _KINDS.get(one.tags.get(KIND_TAG, "")) if hasattr(one, "tags") else None
        if kind is None:
            continue
        found[Node(kind, one.name)] = dict(_of_service(one) if kind == "services" else _of_view(one, kind))
    return found


def _of_view(one: Any, kind: str) -> Iterator[tuple[str, str]]:
    for field in (*(one.entity_columns if kind == "views" else ()), *one.features):
        if field.name != DUMMY_ENTITY_ID:  # Feast's stand-in for the key of what has none
            yield field.name, _type(field)


def _of_service(one: Any) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for projection in one.feature_view_projections:
        for field in projection.features:
            # Two views of a service may have a feature of the same name.
            yield (
                field.name if field.name not in seen else f"{projection.name_to_use()}__{field.name}",
                _type(field),
            )
            seen.add(field.name)


def _type(field: Any) -> str:
    name: str = field.dtype.to_value_type().name
    return name.lower()
