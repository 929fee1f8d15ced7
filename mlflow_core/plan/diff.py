"""What ``apply`` would change: a project against what was applied, object by object and field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from mlflow_core.plan.project import KINDS, Project
from mlflow_core.spec import Named, OnDemand
from mlflow_core.spec.code import code_digest

__all__ = ["Action", "Applied", "Change", "Diff", "FieldChange", "declared_json", "diff"]

Action = Literal["add", "change", "remove"]
Applied = Mapping[str, Mapping[str, Any]]
"""What was applied: kind ("entities", "sources", "views", ...) -> name -> canonical JSON object."""

_SIGN: Mapping[Action, str] = {"add": "+", "change": "~", "remove": "-"}
_SHOWN = {
    "entities": "entity",
    "sources": "source",
    "views": "feature view",
    "on_demand": "on-demand features",
    "services": "feature service",
    "pipelines": "training pipeline",
    "step_pipelines": "pipeline of steps",
    "native": "Feast object",
}


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of a declaration that differs.

    Attributes:
        field: Its name.
        before: What was applied, as JSON values; None where it was left at its default.
        after: What is declared now; None where it is left at its default.
    """

    field: str
    before: Any
    after: Any

    def describe(self) -> str:
        """Return the change as one line; of lists only the items that came or went, of named ones what differs."""
        if isinstance(self.before or [], list) and isinstance(self.after or [], list):
            if (changed := _changed_items(self.before or [], self.after or [])) is not None:
                return f"{self.field}: {changed}"
            gone = [f"- {_short(one)}" for one in self.before or [] if one not in (self.after or [])]
            new = [f"+ {_short(one)}" for one in self.after or [] if one not in (self.before or [])]
            return f"{self.field}: {', '.join([*gone, *new]) or 'another order'}"
        return f"{self.field}: {_short(self.before)} -> {_short(self.after)}"


@dataclass(frozen=True, slots=True)
class Change:
    """One declaration that is new, gone or different.

    Attributes:
        action: What apply would do with it.
        kind: One of ``KINDS``, or "native" for Feast's own objects.
        name: Its name.
        fields: What differs, for a change.
    """

    action: Action
    kind: str
    name: str
    fields: tuple[FieldChange, ...] = ()

    def describe(self) -> str:
        """Return the change as text, one line and one for each field."""
        lines = [f"{_SIGN[self.action]} {_SHOWN[self.kind]} {self.name}"]
        return "\n".join([*lines, *(f"    {field.describe()}" for field in self.fields)])


@dataclass(frozen=True, slots=True)
class Diff:
    """All changes, in building order; true where there are any.

    Attributes:
        changes: The changes.
    """

    changes: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(self.changes)

    def of(self, action: Action) -> tuple[Change, ...]:
        """Return the changes of one kind."""
        return tuple(change for change in self.changes if change.action == action)

    def describe(self) -> str:
        """Return the changes as text, with a summary in the last line."""
        if not self.changes:
            return "No changes. What is declared is what was applied."
        counts = (("to add", "add"), ("to change", "change"), ("to remove", "remove"))
        summary = ", ".join(
            f"{sum(c.action == action for c in self.changes)} {words}" for words, action in counts
        )
        return "\n".join([*(change.describe() for change in self.changes), "", f"{summary}."])


def diff(applied: Applied, project: Project) -> Diff:
    """Compare a project with what was applied.

    Args:
        applied: Kind -> name -> canonical JSON object of what was applied; a kind may be missing. Feast's own
            objects are under "native" as ``{type}:{name}``, only by name.
        project: The loaded project.

    Returns:
        What apply would add, change and remove.
    """
    wanted: dict[str, dict[str, Any]] = {
        kind: {name: declared_json(one) for name, one in project.declared(kind).items()} for kind in KINDS
    }
    wanted["native"] = {f"{type(one).__name__}:{one.name}": {} for one in project.native}
    return Diff(
        tuple(change for kind in wanted for change in _changes(kind, applied.get(kind, {}), wanted[kind]))
    )


def declared_json(one: Named) -> dict[str, Any]:
    """Return what is compared of a declaration: its canonical JSON and, of on-demand features, their code's digest."""
    fields: dict[str, Any] = orjson.loads(one.canonical_json())
    return fields | {"code": code_digest(one.function)} if isinstance(one, OnDemand) else fields


def _changes(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted({*before, *after}):
        if name not in before:
            yield Change("add", kind, name)
        elif name not in after:
            yield Change("remove", kind, name)
        elif before[name] != after[name]:
            yield Change("change", kind, name, tuple(_fields(before[name], after[name])))


def _fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[FieldChange]:
    for field in sorted({*before, *after}):
        if before.get(field) != after.get(field):
            yield FieldChange(field, before.get(field), after.get(field))


def _changed_items(before: list[Any], after: list[Any]) -> str | None:
    """Say how lists of named things differ where some of the names are in both, such as a pipeline's steps."""
    old, new = ({one["name"]: one for one in items if _is_named(one)} for items in (before, after))
    if (len(old), len(new)) != (len(before), len(after)) or not old.keys() & new.keys():
        return None
    told = [f"- {name}" for name in old if name not in new]
    for name, one in new.items():
        if name not in old:
            told.append(f"+ {name}")
        elif fields := [key for key in sorted({*one, *old[name]}) if one.get(key) != old[name].get(key)]:
            told.append(f"~ {name} ({', '.join(fields)})")
    return ", ".join(told) or "another order"


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("name"), str)


def _short(value: Any) -> str:
    if value is None:
        return "default"
    if isinstance(value, dict) and "name" in value:
        return str(value["name"])
    text = orjson.dumps(value).decode()
    return text if len(text) <= 100 else f"{text[:97]}..."
