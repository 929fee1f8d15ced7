"""``mlcore completion``: the script that lets a shell complete verbs and options."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.errors import UsageError, nearest

__all__ = ["VARIABLE", "app", "completion"]

VARIABLE = "_MLCORE_COMPLETE"
"""The environment variable by which the script asks the command for words."""
_SHELLS = ("bash", "zsh", "fish")

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def completion(
    context: typer.Context,
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="The shell that is to complete.")],
) -> None:
    """Print the script that lets a shell complete verbs and options; bash: source <(mlcore completion bash).

    Example: mlcore completion bash
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # typer has no other door

    if shell not in _SHELLS:
        raise UsageError(f'no completion for "{shell}"', hint=nearest(shell, _SHELLS))
    script = get_completion_script(prog_name="mlcore", complete_var=VARIABLE, shell=shell)
    out = invocation(context).out
    if out.json:
        out.result({"shell": shell, "script": script}, script)
    else:
        typer.echo(script)  # as it is: a shell reads it
