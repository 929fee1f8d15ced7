"""``mlcore config``: the settings, and where each one comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_core.cli.context import invocation

if TYPE_CHECKING:
    from mlflow_core.config import Entry

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
    """Show every setting; secrets as their references, with why one has no value.

    Example: mlcore config show --origin
    """
    call = invocation(context)
    entries = call.read_settings(missing_too=True).entries()
    data = [
        {"key": one.key, "value": one.value}
        | ({"origin": one.origin} if origin else {})
        | ({"missing": one.missing} if one.missing else {})
        for one in entries
    ]
    rows = [(one.key, _shown(one), one.origin) if origin else (one.key, _shown(one)) for one in entries]
    call.out.table(data, ("setting", "value", "origin") if origin else ("setting", "value"), rows)


def _shown(entry: Entry) -> str:
    return f"{entry.value} ({entry.missing})" if entry.missing else entry.value
