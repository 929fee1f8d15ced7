"""``mlcore dataset``: build the training set of a pipeline, look at those that were built."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.cli.dataset_files import diff, export, record_of
from mlflow_core.cli.words import PerformanceReportOption
from mlflow_core.errors import UsageError

if TYPE_CHECKING:
    from mlflow_core.metadata.records import DatasetRecord
__all__ = ["app", "build", "show"]

app = typer.Typer(
    help="Build, show, compare and export training sets.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)

ClockOption = Annotated[
    str | None,
    typer.Option(
        "--clock",
        metavar="event|known|served",
        help="Which events an entity row sees: all that happened by its time (event), those known by then "
        "(known), or those that the online store would have held (served); by default the pipeline's own.",
    ),
]


@app.callback()
def dataset() -> None:
    """Build, show, compare and export training sets."""


@app.command()
def build(
    context: typer.Context,
    pipeline: Annotated[str, typer.Argument(help="The pipeline whose dataset is built.")],
    clock: ClockOption = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Only say what would be read and computed, where and why.")
    ] = False,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Start no cluster, however large the retrieval is.")
    ] = False,
    performance_report: PerformanceReportOption = None,
) -> None:
    """Build the training set of a pipeline and keep it, named by its content.

    Example: mlcore dataset build late_arrival --explain
    """
    from mlflow_core.cli.workspace import clock_named, open_workspace
    from mlflow_core.engine.dataset.estimate import explain_dataset
    from mlflow_core.workflow.dataset import plan_of
    from mlflow_core.workflow.pipeline_dataset import build_for_pipeline

    call = invocation(context)
    workspace = open_workspace(call)
    spec = workspace.pipeline(pipeline)
    chosen = clock_named(clock)
    plan = plan_of(spec.data, workspace.base, clock=chosen, carry=spec.carried, erasures=workspace.erasures)
    told = explain_dataset(
        plan,
        base=workspace.base,
        cluster=not in_process,
        worth_a_cluster=workspace.settings.cluster.worth_from,
        cache=workspace.layouts if explain else None,
    )
    if explain:
        text = told.describe()
        call.result({"pipeline": pipeline, "clock": plan.clock, "plan": text, **told.to_json()}, text)
        return
    large = told.estimate.place == "on Dask"
    if performance_report is not None and not large:
        raise UsageError(
            "--performance-report: there is no cluster to report on, the retrieval is done in this process",
            hint="See why: --explain",
        )
    with workspace.cluster(performance_report=performance_report) if large else nullcontext() as client:
        stored, record = build_for_pipeline(
            workspace, spec, clock=chosen, client=client, progress=call.progress()
        )
    for warning in stored.warnings:
        typer.echo(f"warning: {warning}", err=True)
    call.result(_data(record), _text(record))


@app.command()
def show(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="A pipeline's name, a number or a digest; all if left out.")
    ] = None,
    clock: Annotated[
        str | None,
        typer.Option(
            "--clock",
            metavar="event|known|served",
            help="Only what was built under this clock; for a pipeline's name by default its own.",
        ),
    ] = None,
) -> None:
    """List the training sets that were built, or show one; of a pipeline the newest under its own clock.

    Example: mlcore dataset show late_arrival
    """
    from mlflow_core.cli.workspace import clock_named

    call, chosen = invocation(context), clock_named(clock)
    if name is None:
        records = call.metadata.list_datasets(clock=chosen)
        removed = any(one.removed_us is not None for one in records)
        rows = [
            (
                one.id,
                one.name,
                one.clock,
                f"{sum(one.rows.values()):,}",
                one.content_hash[7:19],
                *(("" if one.removed_us is None else "removed",) if removed else ()),
            )
            for one in records
        ]
        columns = ("id", "pipeline", "clock", "rows", "digest", *(("",) if removed else ()))
        call.out.table([_data(one) for one in records], columns, rows)
        return
    record = record_of(call, name, chosen)
    call.result(_data(record), _text(record))


app.command()(diff)
app.command()(export)


def _data(record: DatasetRecord) -> dict[str, Any]:
    return {field: getattr(record, field) for field in record.__dataclass_fields__}


def _text(record: DatasetRecord) -> str:
    from mlflow_core.config.times import format_time
    from mlflow_core.plan.dataset import PARTS

    left = [f"{count:,} {reason}" for reason, count in record.report.get("left_out", {}).items() if count]
    parts = record.report.get("parts", {})
    lines = [
        f"dataset {record.id} of {record.name}, clock {record.clock}",
        f"digest   {record.content_hash}",
        f"columns  {len(record.schema)}",
    ]
    if record.removed_us is not None:
        lines.append(f"removed  {format_time(record.removed_us)}, because {record.removed_why}")
    for part in (name for name in PARTS if name in record.rows):
        rows = record.rows[part]
        told = parts.get(part, {})
        rate = f", label mean {told['label_mean']:.4f}" if told.get("label_mean") is not None else ""
        span = f", {told['from']} to {told['to']}" if told else ""
        lines.append(f"{part:<9}{rows:,} rows{span}{rate}")
    lines.append(f"left out {', '.join(left) or 'none'}")
    lines += [
        f"{'ok' if check['holds'] else check['severity']:<9}{check['view']}.{check['column']}: {check['found']}"
        f" ({check['check']})"
        for check in record.report.get("checks", [])
    ]
    return "\n".join(lines)
