"""``mlcore dataset diff`` and ``mlcore dataset export``: two training sets side by side, and one as files for others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_core.cli.context import Invocation, invocation
from mlflow_core.cli.runs_compare import AllOption, difference_data, difference_text

if TYPE_CHECKING:
    from mlflow_core.metadata.records import DatasetRecord
    from mlflow_core.spec import ClockName

__all__ = ["diff", "export", "record_of"]

Name = Annotated[str, typer.Argument(help="A training set: a pipeline's name, a number or a digest.")]


def diff(context: typer.Context, a: Name, b: Name, everything: AllOption = False) -> None:
    """Say how two training sets differ: rows, columns, split, sources' files, and columns that moved.

    Example: mlcore dataset diff 1 late_arrival
    """
    from mlflow_core.artifacts import ArtifactStore
    from mlflow_core.workflow.data_difference import compare_datasets

    call = invocation(context)
    first, second = record_of(call, a), record_of(call, b)
    found = compare_datasets(first, second, ArtifactStore(call.settings.artifact_location()))
    call.result(difference_data(found, everything), difference_text(call, found, everything))


def export(
    context: typer.Context,
    name: Name,
    to: Annotated[
        Path,
        typer.Option(
            "--to",
            metavar="FOLDER|FILE",
            help="A new folder, which gets a file for each part, or a file that ends in .parquet or .csv.",
        ),
    ],
    form: Annotated[
        str | None, typer.Option("--format", metavar="parquet|csv", help="Of a folder's files.")
    ] = None,
) -> None:
    """Write a training set out as Parquet or CSV; in one file, a column "part" tells its parts apart.

    Example: mlcore dataset export late_arrival --to exported --format csv
    """
    from mlflow_core.artifacts import ArtifactStore
    from mlflow_core.workflow.data_difference import stored_dataset
    from mlflow_core.workflow.data_export import export_dataset

    call = invocation(context)
    record = record_of(call, name)
    stored = stored_dataset(record, ArtifactStore(call.settings.artifact_location()))
    done = export_dataset(stored, to, form=form)
    data = {"dataset": record.id, "format": done.format, "files": done.files}
    call.result(data, "\n".join(f"{file}  {rows:,} rows" for file, rows in done.files.items()))


def record_of(call: Invocation, name: str, clock: ClockName | None = None) -> DatasetRecord:
    """Return the record of a training set: of a pipeline's name the newest under its own clock.

    Args:
        call: The command's invocation.
        name: A pipeline's name, a number or a digest.
        clock: Only what was built under this clock.

    Raises:
        UnknownNameError: There is none.
    """
    if name.isdecimal() or name.startswith("sha256:"):
        return call.metadata.get_dataset(int(name) if name.isdecimal() else name, clock=clock)
    return call.metadata.get_dataset(name, clock=clock or _own_clock(call, name))


def _own_clock(call: Invocation, pipeline: str) -> ClockName | None:
    """Return the clock that a pipeline is trained under; None where it is not declared (any more)."""
    from mlflow_core.plan.retrieval import clock_of
    from mlflow_core.spec import TrainingPipeline

    spec = call.project.pipelines.get(pipeline)
    return spec.data.clock or clock_of(spec.data.features) if isinstance(spec, TrainingPipeline) else None
