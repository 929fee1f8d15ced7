"""``mlcore apply``: write the project to Feast's registry, and record who did it."""

from __future__ import annotations

import typer

from mlflow_core.cli.context import invocation

__all__ = ["app", "apply"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def apply(context: typer.Context) -> None:
    """Write the project's declarations to Feast's registry, all of them or none.

    Example: mlcore apply
    """
    from mlflow_core.cli.changes import changes_data, changes_text, record
    from mlflow_core.feast.registry import apply_project

    call = invocation(context)
    project, schemas = call.project, call.schemas
    changes = apply_project(project, schemas, call.open_store(create=True))
    # Also where nothing changed: an apply that was cut off between registry and record is recorded by the next.
    record(call, project, changes)
    call.result(changes_data(changes), changes_text(changes, done=True))
