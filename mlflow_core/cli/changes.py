"""What plan and apply say of a difference, whom it touches and what it costs; and what apply records of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow_core.cli.context import Invocation
from mlflow_core.metadata import MetadataStore, SpecVersion
from mlflow_core.plan.diff import Action, Diff
from mlflow_core.plan.fingerprint import fingerprint
from mlflow_core.plan.lineage import Node
from mlflow_core.plan.project import KINDS, Project
from mlflow_core.workflow.impact import Impact

if TYPE_CHECKING:
    from feast import FeatureStore

    from mlflow_core.workflow.recompute import Recompute

__all__ = ["NOTHING", "Planned", "changes_data", "changes_text", "planned", "record"]

_ACTIONS: tuple[Action, ...] = ("add", "change", "remove")


@dataclass(frozen=True)
class Planned:
    """What apply would do and what follows from it.

    Attributes:
        changes: How declarations differ from what was applied.
        impact: Whom that touches.
        recompute: What will have to be computed again.
    """

    changes: Diff
    impact: Impact = field(default_factory=Impact)
    recompute: tuple[Recompute, ...] = ()


NOTHING = Planned(Diff(()))


def planned(call: Invocation, store: FeatureStore | None, metadata: MetadataStore | None) -> Planned:
    """Compare the project of a call with what was applied, and follow the difference to what it touches.

    Args:
        call: The call.
        store: The opened store; None where nothing was applied yet.
        metadata: Models and runs; None where there are none yet.

    Raises:
        PlanError: The project does not load or cannot be expressed in Feast.
        RegistryError: The registry cannot be read.
    """
    from mlflow_core.feast.columns import columns_of, stored_columns
    from mlflow_core.feast.registry import applied_specs, plan_project
    from mlflow_core.plan.impact import column_changes, destructions, reached
    from mlflow_core.plan.to_feast import to_feast
    from mlflow_core.workflow.impact import computed_otherwise, impact_of, used_models
    from mlflow_core.workflow.recompute import recomputed

    project, schemas = call.project, call.schemas
    changes = plan_project(project, schemas, store)
    if not changes or store is None:
        return Planned(changes)
    columns = column_changes(stored_columns(store), columns_of(to_feast(project, schemas)))
    nodes = reached(changes, applied_specs(store), project)
    models = () if metadata is None else used_models(metadata)
    lost = destructions(changes, columns)
    if models and metadata is not None:
        told = {one.node for one in lost}
        declared = {Node(one.kind, one.name): one.fingerprint for one in _versions(project)}
        changed = computed_otherwise(models, _in_force(metadata), declared)
        lost += tuple(one for one in changed if one.node not in told)
    impact = impact_of(nodes, columns, lost, models)
    return Planned(changes, impact, () if metadata is None else recomputed(project, nodes, metadata))


def changes_data(plan: Planned) -> dict[str, Any]:
    """Return a plan as JSON values: changes with their fields, columns, whom they touch, what is computed again."""
    impact = plan.impact
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
            for change in plan.changes.changes
        ],
        "summary": {action: len(plan.changes.of(action)) for action in _ACTIONS},
        "columns": [
            {
                "kind": one.node.kind,
                "name": one.node.name,
                "added": dict(one.added),
                "removed": dict(one.removed),
                "retyped": {name: {"before": was, "after": now} for name, (was, now) in one.retyped.items()},
            }
            for one in impact.columns
        ],
        "touches": {
            "pipelines": list(impact.pipelines),
            "models": [
                {"model": one.title, "aliases": list(one.aliases), "deployed": list(one.targets)}
                for one in impact.models
            ],
        },
        "recompute": [
            {
                "kind": one.kind,
                "name": one.name,
                "rows": one.rows,
                "bytes": one.bytes,
                "seconds": one.seconds,
                "why": one.why,
            }
            for one in plan.recompute
        ],
        "destroys": [
            {
                "kind": one.node.kind,
                "name": one.node.name,
                "what": one.what,
                "used_by": [told.model.title for told in impact.in_the_way if told.destruction == one],
            }
            for one in impact.destroyed
        ],
    }


def changes_text(plan: Planned, *, done: bool, width: int = 80) -> str:
    """Return a plan as text.

    Args:
        plan: What differs, and what follows.
        done: It has been applied.
        width: Columns a line of a table may have.
    """
    changes = plan.changes
    if not changes:
        return changes.describe() if not done else "Nothing to change. What is declared is what was applied."
    follows = "\n".join(_follows(plan, width))
    if not done:
        declared, _, summary = changes.describe().rpartition("\n\n")
        return "\n\n".join(part for part in (declared, follows, summary) if part)
    added, changed, removed = (len(changes.of(action)) for action in _ACTIONS)
    summary = f"Applied: {added} added, {changed} changed, {removed} removed."
    told = "\n".join(change.describe() for change in changes.changes)
    return "\n\n".join(part for part in (told, follows, summary) if part)


def record(call: Invocation, project: Project, plan: Planned) -> None:
    """Record in the metadata store which specs are in force now, and who put them there.

    Raises:
        MetadataError: The database cannot be written.
    """
    call.metadata.record_apply(_versions(project), changes=changes_data(plan))


def _follows(plan: Planned, width: int) -> Iterator[str]:
    impact = plan.impact
    if impact.columns:
        yield "Columns:"
        yield from (f"  {one.describe()}" for one in impact.columns)
    if impact.pipelines or impact.models:
        yield "Touches:"
        yield from (f"  pipeline {name}" for name in impact.pipelines)
        yield from (f"  model {one.describe()}" for one in impact.models)
    if plan.recompute:
        yield "To be computed again:"
        yield from (f"  {line}" for line in _recompute_table(plan.recompute, width - 2))
    if impact.destroyed:
        yield "Destroys:"
        for one in impact.destroyed:
            used = [told.model.describe() for told in impact.in_the_way if told.destruction == one]
            yield f"  {one.describe()}" + (f"; used by {', '.join(used)}" if used else "")


def _recompute_table(found: tuple[Recompute, ...], width: int) -> list[str]:
    from mlflow_core.cli.output import table
    from mlflow_core.config.sizes import format_size

    rows = [
        (
            f"{one.kind} {one.name}",
            "unknown" if one.rows is None else f"{one.rows:,}",
            "unknown" if one.bytes is None else format_size(one.bytes),
            "unknown" if one.seconds is None else f"{one.seconds:,.1f} s",
            one.why,
        )
        for one in found
    ]
    return table(("what", "rows", "to read", "takes about", "by"), rows, width=width).splitlines()


def _in_force(metadata: MetadataStore) -> dict[Node, str]:
    """The fingerprints of what was applied last."""
    last = metadata.last_apply()
    specs = () if last is None else metadata.specs_of(last.id)
    return {Node(one.kind, one.name): one.fingerprint for one in specs}


def _versions(project: Project) -> Iterator[SpecVersion]:
    for kind in KINDS:
        for name, one in project.declared(kind).items():
            yield SpecVersion(kind, name, fingerprint(one), one.canonical_json().decode())
