"""``mlcore scheduler``: the process that starts pipelines and materialisations when they are due."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from mlflow_core.cli.context import invocation

__all__ = ["app", "scheduler"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def scheduler(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Start what is due now, wait for it and end.")] = False,
    look: Annotated[
        float, typer.Option(metavar="SECONDS", help="How often to look at what is due.", min=0.1)
    ] = 1.0,
) -> None:
    """Start pipelines, and materialise views, when they are due, until ended by SIGTERM or Ctrl-C; any number may run.

    Example: mlcore scheduler
    """
    from mlflow_core.cli.schedule import open_scheduler, told_to_end

    call = invocation(context)
    made = open_scheduler(call, look_s=look)
    known = len(call.metadata.list_schedules())
    typer.echo(f"watching {known} schedule{'s' * (known != 1)}", err=True)
    with told_to_end() as stopped:
        ended = made.run(stopped, once=once)
    failed = sum(one.status != 0 for one in ended)
    text = f"Started {len(ended)}, of which {failed} failed."
    call.result({"started": [asdict(one) for one in ended], "failed": failed}, text)
    if once and failed:
        raise typer.Exit(1)
