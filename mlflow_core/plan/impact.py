"""How far a change reaches: columns that come, go or get another type, what is destroyed, what is made of it.

Reads a difference between what was applied and what is declared, both as values; whether a model in use stands in the
way is for those to say who know the models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_core.plan.diff import Applied, Diff
from mlflow_core.plan.lineage import Node, lineage
from mlflow_core.plan.project import KINDS, Project

__all__ = ["ColumnChange", "Columns", "Destruction", "column_changes", "destructions", "reached"]

Columns = Mapping[Node, Mapping[str, str]]
"""The columns of views, on-demand features and services, with the names of their types."""

_WITHOUT_EFFECT = frozenset({"description", "owner", "tags", "schedule", "retries"})
_LOST_WITH = {"entities", "views", "on_demand", "services"}


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """How the columns of one declaration differ.

    Attributes:
        node: Which declaration.
        added: New columns with their types.
        removed: Columns that are gone, with the types that they had.
        retyped: Column -> type before and after.
    """

    node: Node
    added: Mapping[str, str]
    removed: Mapping[str, str]
    retyped: Mapping[str, tuple[str, str]]

    def describe(self) -> str:
        """Return the change as one line."""
        told = [
            *(f"+ {name} {kind}" for name, kind in self.added.items()),
            *(f"- {name} {kind}" for name, kind in self.removed.items()),
            *(f"~ {name} {before} -> {after}" for name, (before, after) in self.retyped.items()),
        ]
        return f"{self.node}: {', '.join(told)}"


@dataclass(frozen=True, slots=True)
class Destruction:
    """Something that readers of what was applied can no longer have.

    Attributes:
        node: Whose.
        what: What is lost, in words.
    """

    node: Node
    what: str

    def describe(self) -> str:
        """Return it as one line."""
        return f"{self.node}: {self.what}"


def column_changes(before: Columns, after: Columns) -> tuple[ColumnChange, ...]:
    """Compare columns as they were applied with those that apply would write.

    Args:
        before: Columns of what was applied.
        after: Columns of what is declared.

    Returns:
        One for each declaration that is on both sides and differs.

    Example:
        >>> view = Node("views", "delays")
        >>> (one,) = column_changes({view: {"delay": "int64"}}, {view: {"delay": "double"}})
        >>> one.describe()
        'delays (feature view): ~ delay int64 -> double'
    """
    return tuple(
        ColumnChange(
            node,
            {name: kind for name, kind in after[node].items() if name not in before[node]},
            {name: kind for name, kind in before[node].items() if name not in after[node]},
            {
                name: (before[node][name], kind)
                for name, kind in after[node].items()
                if name in before[node] and before[node][name] != kind
            },
        )
        for node in _in_order(before.keys() & after.keys())
        if before[node] != after[node]
    )


def destructions(changes: Diff, columns: Iterable[ColumnChange]) -> tuple[Destruction, ...]:
    """Say what a difference destroys: declarations, keys of entities, columns, types of columns.

    Args:
        changes: What apply would change.
        columns: How columns differ.
    """
    found: list[Destruction] = []
    for change in changes.changes:
        if change.kind not in _LOST_WITH:
            continue
        node = Node(change.kind, change.name)
        if change.action == "remove":
            found.append(Destruction(node, "is removed"))
        elif change.kind == "entities" and any(field.field == "keys" for field in change.fields):
            found.append(Destruction(node, "has other keys"))
    for one in columns:
        if one.removed:
            found.append(Destruction(one.node, f"loses {', '.join(one.removed)}"))
        found += [
            Destruction(one.node, f"{name} becomes {after}, was {before}")
            for name, (before, after) in one.retyped.items()
        ]
    return tuple(found)


def reached(changes: Diff, applied: Applied, project: Project) -> tuple[Node, ...]:
    """Return what a difference changes in its values: the changed declarations and all that is made of them.

    Args:
        changes: What apply would change.
        applied: Kind -> name -> canonical JSON object of what was applied.
        project: The loaded project.

    Returns:
        Declarations of before and of now, in building order. A change of what only people read reaches nothing, and
        neither does one of a schedule or of retries.
    """
    made_of: dict[Node, set[Node]] = {}
    for part, whole in (*lineage(project).edges, *_applied_edges(applied)):
        made_of.setdefault(part, set()).add(whole)
    front = [
        Node(change.kind, change.name)
        for change in changes.changes
        if change.kind in KINDS
        and (change.action != "change" or any(one.field not in _WITHOUT_EFFECT for one in change.fields))
    ]
    found = set(front)
    while front:
        front = [whole for node in front for whole in made_of.get(node, ()) if whole not in found]
        found.update(front)
    return tuple(_in_order(found))


def _in_order(nodes: Iterable[Node]) -> list[Node]:
    return sorted(nodes, key=lambda node: (KINDS.index(node.kind), node.name))


def _applied_edges(applied: Applied) -> Iterator[tuple[Node, Node]]:
    """What was made of what when it was applied; the declarations are there as JSON only."""
    for name, view in applied.get("views", {}).items():
        yield from _part("sources", view.get("source"), Node("views", name))
        yield from _part("entities", view.get("entity"), Node("views", name))
    for name, one in applied.get("on_demand", {}).items():
        for used in one.get("inputs", ()):
            yield Node("views", used["view"]), Node("on_demand", name)
    for name, service in applied.get("services", {}).items():
        for used in service.get("features", ()):
            kind = "views" if "view" in used else "on_demand"
            yield (
                Node(kind, next(used[key] for key in ("view", "on_demand") if key in used)),
                Node("services", name),
            )
    for name, pipeline in applied.get("pipelines", {}).items():
        yield from _parts_of_pipeline(pipeline.get("data", {}), Node("pipelines", name))


def _parts_of_pipeline(data: Mapping[str, Any], whole: Node) -> Iterator[tuple[Node, Node]]:
    if isinstance(service := data.get("features"), str):
        yield Node("services", service), whole
    for part in (data.get("spine", {}), data.get("label", {})):
        yield from _part("sources", part.get("source"), whole)
        yield from _part("entities", part.get("entity"), whole)


def _part(kind: str, declared: object, whole: Node) -> Iterator[tuple[Node, Node]]:
    """An entity or source within another declaration is written in full, or only by its name."""
    name = declared.get("name") if isinstance(declared, dict) else declared
    if isinstance(name, str):
        yield Node(kind, name), whole
