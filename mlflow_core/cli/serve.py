"""``mlcore serve``: features and predictions over HTTP, on the loopback unless told otherwise."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.cli.words import ClockOption, clock_of_call

__all__ = ["app", "serve"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on; by default the settings'.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one; by default the settings'.")
    ] = None,
    clock: ClockOption = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the port.")] = 1,
    allow_registry_code: Annotated[
        bool, typer.Option("--allow-registry-code", help="Run on-demand code that is kept in the registry.")
    ] = False,
) -> None:
    """Serve features and predictions until told to stop.

    Example: mlcore serve --port 8000 --clock from:2013-11-15T12:30Z
    """
    from mlflow_core.serve.run import Served, serve

    call = invocation(context)
    served = Served(
        root=str(call.root),
        env=call.env,
        clock=str(clock_of_call(call, clock=clock)),
        principal=call.principal.name,
        established=call.principal.established,
        allow_registry_code=allow_registry_code,
        verbosity=call.verbosity,
    )
    where = host or call.settings.serve.host
    serve(
        served,
        host=where,
        port=call.settings.serve.port if port is None else port,
        workers=workers,
        announce=lambda url: typer.echo(f"serving {call.settings.project.name} on {url}", err=True),
    )
