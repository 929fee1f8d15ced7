"""``mlcore runs compare`` and ``mlcore runs diff-data``: what is different between two runs, and between their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_core.cli.context import Invocation, invocation
from mlflow_core.errors import UsageError

if TYPE_CHECKING:
    from mlflow_core.metadata.records import DatasetRecord
    from mlflow_core.workflow.comparison import Compared
    from mlflow_core.workflow.data_difference import ColumnFacts, ColumnMove, DataDifference

__all__ = ["AllOption", "compare", "diff_data", "difference_data", "difference_text"]

FirstRun = Annotated[str, typer.Argument(help="A run's id, the beginning of it, or latest.")]
SecondRun = Annotated[str, typer.Argument(help="Another run.")]
AllOption = Annotated[bool, typer.Option("--all", help="Show what is the same, too.")]


def compare(context: typer.Context, a: FirstRun, b: SecondRun, everything: AllOption = False) -> None:
    """Lay two runs side by side: params, metrics, data, features, code, environment; only what differs.

    Example: mlcore runs compare 20260101T120000 latest
    """
    from mlflow_core.artifacts import ArtifactStore
    from mlflow_core.workflow.comparison import compare_runs

    call = invocation(context)
    artifacts = ArtifactStore(call.settings.artifact_location())
    found = compare_runs(call.metadata, artifacts, a, b)
    shown = found.rows if everything else found.different
    data = {
        "a": found.a.id,
        "b": found.b.id,
        "same": not found.different,
        "rows": [_row_data(row) for row in shown],
        "notes": list(found.notes),
    }
    lines = [f"a  {found.a.id} of {found.a.pipeline}", f"b  {found.b.id} of {found.b.pipeline}", ""]
    lines += [_laid(call, shown)] if shown else []
    lines += [] if found.different else ["They are the same in everything that is recorded."]
    call.result(data, "\n".join([*lines, *(f"note: {note}" for note in found.notes)]))


def diff_data(context: typer.Context, a: FirstRun, b: SecondRun, everything: AllOption = False) -> None:
    """Say how the training sets of two runs differ: rows, columns, split, sources' files, and columns that moved.

    Example: mlcore runs diff-data 20260101T120000 latest
    """
    from mlflow_core.artifacts import ArtifactStore
    from mlflow_core.workflow.data_difference import compare_datasets

    call = invocation(context)
    first, second = (_dataset_of(call, one) for one in (a, b))
    found = compare_datasets(first, second, ArtifactStore(call.settings.artifact_location()))
    call.result(difference_data(found, everything), difference_text(call, found, everything))


def difference_data(found: DataDifference, everything: bool) -> dict[str, Any]:
    """Return how two training sets differ as JSON values.

    Args:
        found: The two.
        everything: What is the same, too.
    """
    facts = [one for one in found.facts if everything or not one.same]
    columns = found.columns if everything else found.moved
    return {
        "a": found.a.id,
        "b": found.b.id,
        "same": found.a.content_hash == found.b.content_hash,
        "facts": [_row_data(one) for one in facts],
        "columns": [_column_data(one) for one in columns],
    }


def difference_text(call: Invocation, found: DataDifference, everything: bool) -> str:
    """Return how two training sets differ as lines for a person; see ``difference_data``."""
    from mlflow_core.cli.output import table

    lines = [f"{side}  dataset {one.id} of {one.name}" for side, one in (("a", found.a), ("b", found.b))]
    facts = [one for one in found.facts if everything or not one.same]
    lines += ["", _laid(call, facts)] if facts else []
    columns = found.columns if everything else found.moved
    if columns:
        heads = ("part", "column", "nulls", "mean", "by std")
        lines += ["", table(heads, [_column_row(one) for one in columns], width=call.out.width)]
    elif found.a.content_hash == found.b.content_hash:
        lines += ["", "The rows are the same, byte by byte."]
    else:
        lines += ["", "No column moved."]
    return "\n".join(lines)


def _dataset_of(call: Invocation, run: str) -> DatasetRecord:
    found = call.metadata.get_run(run)
    if found.dataset_id is None:
        raise UsageError(
            f"run {found.id} has no training set", expected="a run that came as far as its dataset"
        )
    return call.metadata.get_dataset(found.dataset_id)


def _row_data(row: Compared) -> dict[str, Any]:
    return {"part": row.part, "name": row.name, "a": row.a, "b": row.b, "only": row.only, "same": row.same}


def _laid(call: Invocation, rows: Iterable[Compared]) -> str:
    from mlflow_core.cli.output import table

    cells = [(row.part, row.name, *_sides(row)) for row in rows]
    return table(("part", "name", "a", "b"), cells, width=call.out.width)


def _sides(row: Compared) -> tuple[str, str]:
    a, b = ("-" if row.only == absent else _shown(value) for absent, value in (("b", row.a), ("a", row.b)))
    if row.only is None and isinstance(row.a, float) and isinstance(row.b, float) and not row.same:
        b += f" ({row.b - row.a:+.3g})"
    return a, b


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()  # as `runs show` writes it, and as a setting is written
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    text = text[:19] if text.startswith("sha256:") else text
    return text if len(text) <= 60 else f"{text[:57]}..."


def _column_data(move: ColumnMove) -> dict[str, Any]:
    from dataclasses import asdict

    sides = {side: None if one is None else asdict(one) for side, one in (("a", move.a), ("b", move.b))}
    return {"part": move.part, "column": move.column, **sides, "shift": move.shift, "moved": move.moved}


def _column_row(move: ColumnMove) -> tuple[object, ...]:
    def both(told: Callable[[ColumnFacts], float | None], form: str) -> str:
        values = [None if one is None else told(one) for one in (move.a, move.b)]
        a, b = ("-" if value is None else format(value, form) for value in values)
        return a if a == b else f"{a} -> {b}"

    shift = "" if move.shift is None else f"{move.shift:+.3f}"
    nulls, means = both(lambda one: one.null_rate, ".2%"), both(lambda one: one.mean, ".5g")
    return move.part, move.column, nulls, means, shift
