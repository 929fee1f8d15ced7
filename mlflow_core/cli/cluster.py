"""``mlcore cluster``: a cluster on this machine that stays between commands, and how it stands."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_core.cli.context import invocation

if TYPE_CHECKING:
    from mlflow_core.cli.context import Invocation
    from mlflow_core.config.cluster import ClusterSettings
    from mlflow_core.engine.cluster.standing import ClusterStatus

__all__ = ["app", "scale", "start", "status", "stop"]

app = typer.Typer(
    help="Start a cluster that stays, look at it, scale and stop it.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)


@app.callback()
def cluster() -> None:
    """Start a cluster that stays, look at it, scale and stop it."""


@app.command()
def start(
    context: typer.Context,
    workers: Annotated[
        int | None, typer.Option(help="How many workers; by default the settings'.", min=1)
    ] = None,
) -> None:
    """Start a cluster on this machine that stays; commands use it where cluster.address is "started".

    Example: mlcore cluster start --workers 2
    """
    from mlflow_core.engine.cluster.standing import start as start_standing

    call = invocation(context)
    settings = call.settings.cluster
    if workers is not None:
        settings = settings.model_copy(update={"workers": workers})
    standing = start_standing(settings, _note(call), log=call.root / ".mlcore" / "logs" / "cluster.log")
    used = _is_used(call)
    lines = [f"{standing.workers} workers at {standing.address}, process {standing.pid}"]
    lines += [] if used else ['To let commands use it, set in mlcore.toml: [cluster] address = "started"']
    call.result({**asdict(standing), "used": used}, "\n".join(lines))


@app.command()
def status(context: typer.Context) -> None:
    """Say which workers a cluster has, what they take, and how many tasks there are.

    Example: mlcore cluster status
    """
    from mlflow_core.engine.cluster.standing import status as look

    call = invocation(context)
    found = look(_running(call))
    call.result(asdict(found), _text(found, width=call.out.width))


@app.command()
def scale(
    context: typer.Context,
    workers: Annotated[int, typer.Argument(help="How many workers it shall have.", min=1)],
) -> None:
    """Give the started cluster another number of workers.

    Example: mlcore cluster scale 4
    """
    from mlflow_core.engine.cluster.standing import scale as scale_standing

    call = invocation(context)
    found = scale_standing(_running(call), workers)
    call.result(asdict(found), _text(found, width=call.out.width))


@app.command()
def stop(context: typer.Context) -> None:
    """End the started cluster with all of its processes; what runs on it fails.

    Example: mlcore cluster stop
    """
    from mlflow_core.engine.cluster.standing import stop as stop_standing

    call = invocation(context)
    ended = stop_standing(_note(call))
    text = "There is no started cluster." if ended is None else f"Ended the cluster at {ended.address}."
    call.result({"stopped": None if ended is None else ended.address}, text)


def _note(call: Invocation) -> Path:
    from mlflow_core.config.cluster import standing_address

    return Path(standing_address(call.settings.root).partition(":")[2])


def _running(call: Invocation) -> ClusterSettings:
    """The settings of the cluster that is there: one at an address, else the started one."""
    from mlflow_core.config.cluster import standing_address

    settings = call.settings.cluster
    update: dict[str, str | None] = {"performance_report": None}
    if settings.address is None:
        update["address"] = standing_address(call.settings.root)
    return settings.model_copy(update=update)


def _is_used(call: Invocation) -> bool:
    from mlflow_core.config.cluster import standing_address

    return call.settings.cluster.address == standing_address(call.settings.root)


def _text(found: ClusterStatus, *, width: int) -> str:
    from mlflow_core.cli.output import table
    from mlflow_core.config.sizes import format_size

    rows: list[tuple[Any, ...]] = [
        (
            one.name,
            one.threads,
            format_size(one.memory),
            format_size(one.memory_limit) if one.memory_limit else "",
            one.tasks,
        )
        for one in found.workers
    ]
    states = ", ".join(f"{count} {state}" for state, count in sorted(found.tasks.items())) or "none"
    lines = [
        f"cluster at {found.address}: {len(rows)} workers, {found.clients} other clients, tasks: {states}",
        "",
        table(("worker", "threads", "memory", "of", "tasks"), rows, width=width),
    ]
    return "\n".join(lines)
