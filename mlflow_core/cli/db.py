"""``mlcore db``: whether the metadata database has the tables of this version, and bringing it to them."""

from __future__ import annotations

from dataclasses import asdict

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.errors import ExitCode

__all__ = ["app", "check", "upgrade"]

app = typer.Typer(
    help="Check and upgrade the metadata database.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)


@app.callback()
def db() -> None:
    """Check and upgrade the metadata database."""


@app.command()
def check(context: typer.Context) -> None:
    """Say how the database stands to this version; exits with 1 where it has other tables. Changes nothing.

    Example: mlcore db check
    """
    from mlflow_core.metadata.upgrade import check as look

    call = invocation(context)
    found = look(call.settings.metadata_url())
    told = {
        "current": f"current, revision {found.revision}",
        "empty": "has no tables yet; the first run makes them",
        "older": f"older, revision {found.revision} of {found.head}; run: mlcore db upgrade",
        "newer": f"newer, revision {found.revision}; install the newer mlflow-core that wrote it",
    }
    call.result(asdict(found), told[found.state])
    if found.state in ("older", "newer"):
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
