"""``mlcore models``: versions, the aliases that point at them, and who moved those when and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer

from mlflow_core.cli.context import Invocation, invocation

__all__ = ["alias", "app", "history", "list_models", "promote", "show"]

app = typer.Typer(
    help="List, show and promote models.", rich_markup_mode=None, add_completion=False, no_args_is_help=True
)

Model = Annotated[str, typer.Argument(help="A model: NAME, NAME:VERSION or NAME@ALIAS.")]


@app.callback()
def models() -> None:
    """List, show and promote models."""


@app.command("list")
def list_models(context: typer.Context) -> None:
    """List models with their versions and aliases; a run's id begins with when it began.

    Example: mlcore models list
    """
    call = invocation(context)
    versions = [one for name in call.metadata.list_models() for one in call.metadata.list_versions(name)]
    rows = [
        (
            one.title,
            ", ".join(one.aliases),
            one.run_id,
            _figure(one.metrics),
        )
        for one in versions
    ]
    call.out.table([asdict(one) for one in versions], ("model", "aliases", "run", "figure"), rows)


@app.command()
def show(context: typer.Context, model: Model) -> None:
    """Show one version of a model: what it reads, what it reached, where it came from.

    Example: mlcore models show late_arrival@champion
    """
    call = invocation(context)
    one = call.metadata.resolve_model(model)
    lines = [f"{one.title}  {', '.join(one.aliases)}"]
    lines += [f"run      {one.run_id}", f"dataset  {one.dataset_id}", f"content  {one.artifact_digest}"]
    lines += [f"where    {one.artifact_uri}"]
    lines += [f"metric   {name:<28}{value:.4f}" for name, value in sorted(one.metrics.items())]
    lines += [f"feature  {name:<28}{kind}" for name, kind in dict(one.signature.get("features", {})).items()]
    lines += [f"tag      {name:<28}{value}" for name, value in sorted(one.tags.items())]
    call.result(asdict(one), "\n".join(lines))


@app.command()
def history(context: typer.Context, model: Annotated[str, typer.Argument(help="A model's name.")]) -> None:
    """Show every move of a model's aliases, the oldest first.

    Example: mlcore models history late_arrival
    """
    from mlflow_core.config.times import format_time

    call = invocation(context)
    moves = call.metadata.alias_history(model)
    rows = [
        (
            format_time(one.moved_us)[:19],
            one.alias,
            f"{one.from_version or '-'} -> {one.to_version or '-'}",
            one.principal,
            one.why,
        )
        for one in moves
    ]
    call.out.table([asdict(one) for one in moves], ("when", "alias", "version", "who", "why"), rows)


@app.command()
def promote(
    context: typer.Context,
    model: Model,
    to: Annotated[str, typer.Option("--to", help="The alias that moves to it.")] = "champion",
    why: Annotated[str, typer.Option("--why", help="Why; kept with the move.")] = "",
) -> None:
    """Let an alias point at a version, with the reason on record.

    Example: mlcore models promote late_arrival@candidate --to champion --why "passed the gate"
    """
    call = invocation(context)
    version = call.metadata.resolve_model(model)
    _move(call, version.model, to, version.version, why or f"promoted from {model}")


@app.command()
def alias(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A model's name.")],
    name: Annotated[str, typer.Argument(help="The alias.")],
    version: Annotated[int, typer.Argument(help="The version that it is to point at.", min=1)],
    why: Annotated[str, typer.Option("--why", help="Why; kept with the move.")] = "",
) -> None:
    """Let an alias point at a version by its number.

    Example: mlcore models alias late_arrival champion 3 --why "version 4 was worse"
    """
    _move(invocation(context), model, name, version, why or "by hand")


def _move(call: Invocation, model: str, alias: str, version: int, why: str) -> None:
    move = call.metadata.move_alias(model, alias, version, why=why)
    before = f"from version {move.from_version} " if move.from_version is not None else ""
    call.result(asdict(move), f"{model}@{alias} moved {before}to version {move.to_version}")


def _figure(metrics: Mapping[str, float]) -> str:
    """Show the first figure, and how many more ``models show`` has."""
    if not metrics:
        return ""
    name, value = next(iter(metrics.items()))
    return f"{name} {value:.4f}" + (f" (+{len(metrics) - 1})" if len(metrics) > 1 else "")
