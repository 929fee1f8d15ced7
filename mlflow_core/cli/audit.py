"""``mlcore audit``: is the record of who changed what whole?"""

from __future__ import annotations

from dataclasses import asdict

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.errors import ExitCode

__all__ = ["app", "verify"]

app = typer.Typer(
    help="Check the record of changes.", rich_markup_mode=None, add_completion=False, no_args_is_help=True
)


@app.callback()
def audit() -> None:
    """Check the record of changes."""


@app.command()
def verify(context: typer.Context) -> None:
    """Walk the whole chain of audit rows; exits with 1 where a row was changed, is missing or out of order.

    Example: mlcore audit verify
    """
    call = invocation(context)
    found = call.metadata.audit_verify()
    lines = [f"row {one.seq} {one.kind}: {one.text}" for one in found.problems]
    summary = f"{found.rows} rows, {'whole' if found.ok else f'{len(found.problems)} problems'}"
    call.result(asdict(found), "\n".join([*lines, f"{summary}, head {found.head_hash}"]))
    if not found.ok:
        raise typer.Exit(ExitCode.FAILED)
