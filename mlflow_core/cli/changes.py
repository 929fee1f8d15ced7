"""What plan and apply say of a difference, and what apply records of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlflow_core.cli.context import Invocation
from mlflow_core.metadata import SpecVersion
from mlflow_core.plan.diff import Action, Diff
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.plan.project import KINDS, Project

__all__ = ["changes_data", "changes_text", "record"]

_ACTIONS: tuple[Action, ...] = ("add", "change", "remove")


def changes_data(changes: Diff) -> dict[str, Any]:
    """Return a difference as JSON values: each change with its fields, and how many there are of each action."""
    return {
        "changes": [
            {
                "action": change.action,
                "kind": change.kind,
                "name": change.name,
                "fields": [
                    {"field": one.field, "before": one.before, "after": one.after} for one in change.fields
                ],
            }
            for change in changes.changes
        ],
        "summary": {action: len(changes.of(action)) for action in _ACTIONS},
    }


def changes_text(changes: Diff, *, done: bool) -> str:
    """Return a difference as text.

    Args:
        changes: What differs.
        done: It has been applied.
    """
    if not done:
        return changes.describe()
    if not changes:
        return "Nothing to change. What is declared is what was applied."
    added, changed, removed = (len(changes.of(action)) for action in _ACTIONS)
    summary = f"{added} added, {changed} changed, {removed} removed"
    return "\n".join([*(change.describe() for change in changes.changes), "", f"Applied: {summary}."])


def record(call: Invocation, project: Project, changes: Diff) -> None:
    """Record in the metadata store which specs are in force now, and who put them there.

    Raises:
        MetadataError: The database cannot be written.
    """
    call.metadata.record_apply(_versions(project), changes=changes_data(changes))


def _versions(project: Project) -> Iterator[SpecVersion]:
    for kind in KINDS:
        for name, one in project.declared(kind).items():
            yield SpecVersion(kind, name, fingerprint(one), one.canonical_json().decode())
