"""``mlcore db``: whether the metadata database can be trusted, bringing it to this version, and keeping a copy of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.errors import ExitCode

if TYPE_CHECKING:
    from mlflow_core.metadata.upgrade import SchemaState

__all__ = ["app", "backup", "check", "restore", "upgrade"]

app = typer.Typer(
    help="Check, upgrade, back up and restore the metadata database.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)


@app.callback()
def db() -> None:
    """Check, upgrade, back up and restore the metadata database."""


@app.command()
def check(context: typer.Context) -> None:
    """Look at tables, pages, references and the audit chain; exits with 1 where something is wrong. Changes nothing.

    Example: mlcore db check
    """
    from mlflow_core.metadata.health import examine

    call = invocation(context)
    found = examine(call.settings.metadata_url())
    data = {**asdict(found.schema), "ok": found.ok, "problems": found.problems}
    if found.audit is not None:
        data["audit"] = {"rows": found.audit.rows, "head_hash": found.audit.head_hash}
    lines = [_stands(found.schema), *found.problems]
    if found.audit is not None and found.ok:
        lines.append(f"whole: tables, pages, references, and {found.audit.rows} audit rows")
    call.result(data, "\n".join(lines))
    if not found.ok:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def upgrade(context: typer.Context) -> None:
    """Create or migrate the tables, all in one transaction.

    Example: mlcore db upgrade
    """
    from mlflow_core.metadata.upgrade import upgrade as bring_up

    call = invocation(context)
    before = bring_up(call.settings.metadata_url())
    text = (
        f"Nothing to change, revision {before.head}."
        if before.state == "current"
        else f"From {before.revision or 'no tables'} to revision {before.head}."
    )
    call.result({"before": before.revision, "now": before.head}, text)


@app.command()
def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Where to; --yes replaces a file that is there.")],
) -> None:
    """Write the database into one file while others go on using it, and read it back.

    Example: mlcore db backup metadata-monday.db
    """
    from mlflow_core.metadata.backup import backup as keep

    call = invocation(context)
    made = keep(call.settings.metadata_url(), file, overwrite=call.yes)
    call.result(
        {"file": str(made.file), "size": made.size, "revision": made.revision},
        f"{made.file}: {made.size} bytes, revision {made.revision}, read back whole.",
    )


@app.command()
def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="What mlcore db backup wrote.")],
) -> None:
    """Put a backup in the database's place; where there are tables already, only with --yes. The audit log tells.

    Who was erased since the backup was made stays erased.

    Example: mlcore db restore metadata-monday.db
    """
    from mlflow_core.metadata import check as look
    from mlflow_core.metadata.backup import restore as put_back
    from mlflow_core.metadata.erased_again import erase_again, erasures_of_all

    call = invocation(context)
    url = call.settings.metadata_url()
    before = look(url).state
    if before == "current":
        _ = call.principal  # who is known by a token is known by the tokens of before
    erased = erasures_of_all(url)
    now = put_back(url, file, overwrite=call.yes)
    lost = erase_again(url, erased, call.clock, call.principal) if erased else ()
    now = look(url) if lost else now
    if now.state == "current":
        call.metadata.record_audit("db.restore", "database", {"file": file.name, "erased_again": len(lost)})
    lines = [f"Restored from {file}: {_stands(now)}."]
    if lost:
        whose = ", ".join(sorted({f"{one.namespace}/{one.project}" for one in lost}))
        lines.append(
            f"It did not know {len(lost)} erasure{'s' * (len(lost) != 1)}, of {whose}: written into it again."
        )
    if before == "empty":
        lines.append("Nothing was there that knew of later erasures; what it knows: mlcore features erasures")
    call.result({**asdict(now), "erased_again": len(lost)}, "\n".join(lines))


def _stands(state: SchemaState) -> str:
    told = {
        "current": f"current, revision {state.revision}",
        "empty": "has no tables yet; the first run makes them",
        "older": f"older, revision {state.revision} of {state.head}; run: mlcore db upgrade",
        "newer": f"newer, revision {state.revision}; install the newer mlflow-core that wrote it",
    }
    return told[state.state]
