"""``mlcore plan``: what apply would change, and nothing else: it writes no file and no registry."""

from __future__ import annotations

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.errors import ExitCode

__all__ = ["app", "plan"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def plan(context: typer.Context) -> None:
    """Show what apply would change; exits with 4 where it would change something.

    Example: mlcore plan
    """
    from mlflow_core.cli.changes import changes_data, changes_text
    from mlflow_core.feast.registry import has_registry, plan_project

    call = invocation(context)
    project, schemas = call.project, call.schemas
    changes = plan_project(project, schemas, call.store if has_registry(call.repo) else None)
    call.result(changes_data(changes), changes_text(changes, done=False))
    if changes:
        raise typer.Exit(ExitCode.PLAN_HAS_CHANGES)
