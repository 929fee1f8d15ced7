"""The declarations that a run was started with, as fingerprints by name: so that a resume can say what has changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlflow_core.metadata.canonical import canonical, sha256
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.spec import Spec, TrainingPipeline

__all__ = ["changed_specs", "specs_of"]

_NO_PART = ("name", "description", "owner", "tags", "schedule", "retries")


def specs_of(spec: Spec) -> dict[str, str]:
    """Fingerprint a pipeline's parts by name: its fields, and of a training set the views, service and source.

    Args:
        spec: The pipeline.

    Returns:
        Fingerprint by what a person calls the part, e.g. ``view carrier_delay`` or ``trainer``.
    """
    told = {
        name: _digest(getattr(spec, name))
        for name in type(spec).model_fields
        if name not in _NO_PART and getattr(spec, name) is not None
    }
    if isinstance(spec, TrainingPipeline):
        service = spec.data.features
        told[f"service {service.name}"] = fingerprint(service)
        told |= {f"view {one.view.name}": fingerprint(one.view) for one in service.selections}
        told |= {f"source {spec.data.spine.source.name}": fingerprint(spec.data.spine.source)}
    return dict(sorted(told.items()))


def changed_specs(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Name the parts that differ, the most exact ones: a changed view is told instead of all that it is part of.

    Args:
        before: As ``specs_of`` said then.
        now: As it says now.

    Example:
        >>> changed_specs({"data": "a", "view v": "b"}, {"data": "x", "view v": "y"})
        ('view v',)
    """
    found = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    for kinds in (("view", "source"), ("service",)):
        exact = tuple(name for name in found if name.partition(" ")[0] in kinds and " " in name)
        if exact:
            rest = (n for n in found if n not in exact and n != "data" and not n.startswith("service "))
            return (*exact, *rest)
    return tuple(found)


def _digest(value: Any) -> str:
    if isinstance(value, Spec):
        return fingerprint(value)
    if isinstance(value, tuple | list):
        return sha256(canonical([_digest(one) for one in value]))
    return sha256(canonical(value))
