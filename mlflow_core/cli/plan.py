"""``mlcore plan``: what apply would change and what follows from it: it writes no file and no registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.errors import ExitCode

if TYPE_CHECKING:
    from mlflow_core.cli.changes import Planned
    from mlflow_core.cli.context import Invocation
    from mlflow_core.metadata import MetadataStore

__all__ = ["app", "plan"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def plan(context: typer.Context) -> None:
    """Show what apply would change, whom that touches and what it costs; exits with 4 where there is a change.

    Example: mlcore plan
    """
    from mlflow_core.cli.changes import changes_data, changes_text

    call = invocation(context)
    found = _planned(call)
    call.result(changes_data(found), changes_text(found, done=False, width=call.out.width))
    if found.changes:
        raise typer.Exit(ExitCode.PLAN_HAS_CHANGES)


def _planned(call: Invocation) -> Planned:
    """Compare what is declared with what was applied; Feast is imported only where something may differ."""
    from mlflow_core.cli.changes import NOTHING, planned
    from mlflow_core.feast.applied import is_applied

    project, schemas = call.project, call.schemas  # what does not load is told before anything is opened
    if is_applied(project, schemas, call.repo):
        _metadata_there(call)  # what is wrong with it is told whatever there is to change
        return NOTHING
    from mlflow_core.feast.registry import has_registry

    return planned(call, call.store if has_registry(call.repo) else None, _metadata_there(call))


def _metadata_there(call: Invocation) -> MetadataStore | None:
    """The metadata store; None where there is none yet, for planning makes no tables."""
    from mlflow_core.metadata import check

    return None if check(call.settings.metadata_url()).state == "empty" else call.metadata
