"""``mlcore models``: versions, the aliases that point at them, and who moved those when and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mlflow_core.cli.context import Invocation, invocation
from mlflow_core.cli.models_lineage import lineage
from mlflow_core.errors import UsageError, nearest

__all__ = ["alias", "app", "export", "history", "list_models", "promote", "show"]

app = typer.Typer(
    help="List, show, promote, trace and export models.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)

Model = Annotated[str, typer.Argument(help="A model: NAME, NAME:VERSION or NAME@ALIAS.")]


@app.callback()
def models() -> None:
    """List, show, promote, trace and export models."""


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


@app.command()
def export(
    context: typer.Context,
    model: Model,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where it goes: a new or empty folder.")],
    form: Annotated[
        str, typer.Option("--format", metavar="onnx|native", help="As ONNX, or as this package keeps it.")
    ] = "onnx",
    rows: Annotated[
        Path | None,
        typer.Option(
            "--rows",
            metavar="FILE",
            help="Parquet file of real rows on which the ONNX model must predict the same; by default rows of "
            "the dataset that the model was trained on.",
        ),
    ] = None,
) -> None:
    """Write a model into a folder; one as ONNX is compared with the model first, and refused if it differs.

    Example: mlcore models export late_arrival@champion --to exported
    """
    from mlflow_core.artifacts import ArtifactStore
    from mlflow_core.workflow.exporting import export_model_as_onnx

    if form not in ("onnx", "native"):
        raise UsageError(f'"{form}" is no format', hint=nearest(form, ["onnx", "native"]))
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError("is there already", place=str(to), expected="a new or empty folder")
    call = invocation(context)
    version = call.metadata.resolve_model(model)
    artifacts = ArtifactStore(call.settings.artifact_location())
    data = {"model": version.model, "version": version.version, "format": form, "folder": str(to)}
    if form == "native":
        artifacts.fetch_tree(version.artifact_digest, to)
        call.result(data, f"{version.title} is in {to}")
        return
    found = export_model_as_onnx(call.metadata, artifacts, version, to, rows=rows)
    data |= {name: value for name, value in asdict(found).items() if name != "folder"}
    call.result(
        data,
        f"{version.title} is in {to}, {found.size / 1e6:.1f} MB of ONNX; over {found.rows:,} rows it is at most "
        f"{found.greatest_absolute:.2g} from the model",
    )


app.command()(lineage)


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
