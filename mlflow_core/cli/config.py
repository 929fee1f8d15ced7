"""``mlcore config``: the settings, and where each one comes from."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_core.cli.context import invocation

__all__ = ["app", "show"]

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def config() -> None:
    """Show the settings and where each one comes from."""


@app.command()
def show(
    context: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value was set.")] = False,
) -> None:
    """Show every setting; secrets as their references.

    Example: mlcore config show --origin
    """
    call = invocation(context)
    entries = call.settings.entries()
    data = [
        {"key": one.key, "value": one.value} | ({"origin": one.origin} if origin else {}) for one in entries
    ]
    rows = [(one.key, one.value, one.origin) if origin else (one.key, one.value) for one in entries]
    call.out.table(data, ("setting", "value", "origin") if origin else ("setting", "value"), rows)
