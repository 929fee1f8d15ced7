"""``mlcore apply``: write the project to Feast's registry, and record who did it.

What destroys something that readers have is done only after a yes; what takes from a model that answers what it
answers with is refused, unless it is forced, and that is recorded.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from mlflow_core.cli.changes import Planned
    from mlflow_core.cli.context import Invocation

__all__ = ["app", "apply"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def apply(
    context: typer.Context,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also take away what a champion or deployed model reads; recorded."),
    ] = False,
) -> None:
    """Write the project's declarations to Feast's registry, all of them or none.

    What destroys columns, views, services or entities needs --yes.

    Example: mlcore apply
    """
    from mlflow_core.cli.changes import NOTHING, changes_data, changes_text, record
    from mlflow_core.feast.applied import is_applied
    from mlflow_core.workflow.schedule.declared import apply_schedules
    from mlflow_core.workflow.schedule.views import scheduled_views

    call = invocation(context)
    project, schemas = call.project, call.schemas
    materialize = call.settings.schedule.materialize
    scheduled_views(project, materialize)  # before anything is written: it may name a view that there is not
    found = NOTHING if is_applied(project, schemas, call.repo) else _written(call, force=force)
    # Also where nothing changed: an apply that was cut off between registry and record is recorded by the next.
    record(call, project, found)
    apply_schedules(project, call.metadata, call.clock.now_us(), materialize=materialize)
    call.result(changes_data(found), changes_text(found, done=True, width=call.out.width))


def _written(call: Invocation, *, force: bool) -> Planned:
    """Write what differs to the registry, if it may be."""
    from mlflow_core.cli.changes import planned
    from mlflow_core.feast.registry import apply_project

    store = call.open_store(create=True)
    found = planned(call, store, call.metadata)
    _agreed(call, found, force=force)
    apply_project(call.project, call.schemas, store)
    return found


def _agreed(call: Invocation, found: Planned, *, force: bool) -> None:
    """Make sure that what is destroyed may be.

    Raises:
        PlanError: A model answers with it, and it is not forced.
        UsageError: Nobody has said yes.
    """
    from mlflow_core.workflow.impact import refuse_destruction

    impact = found.impact
    if not force:
        refuse_destruction(impact)
    if not impact.destroyed:
        return
    if not call.yes:
        told = "; ".join(one.describe() for one in impact.destroyed)
        if call.json or not sys.stdin.isatty():
            raise UsageError(f"this destroys what readers have: {told}", hint="If that is meant, add --yes.")
        if not typer.confirm(f"This destroys what readers have: {told}. Apply it?", err=True):
            raise typer.Exit(ExitCode.FAILED)
    if impact.in_the_way:
        # Before it is done: no forced change may go unrecorded.
        details = [
            {"kind": one.destruction.node.kind, "name": one.destruction.node.name}
            | {"what": one.destruction.what, "model": one.model.title, "aliases": list(one.model.aliases)}
            | {"deployed": list(one.model.targets)}
            for one in impact.in_the_way
        ]
        call.metadata.record_audit("apply.force", f"project:{call.project_name}", {"forced": details})
