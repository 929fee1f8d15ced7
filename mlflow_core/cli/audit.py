"""``mlcore audit``: who changed what and when, and whether the record of it is whole."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.errors import ExitCode

if TYPE_CHECKING:
    from mlflow_core.metadata import AuditEntry

__all__ = ["app", "log", "verify"]

app = typer.Typer(
    help="Show and check the record of changes.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)


@app.callback()
def audit() -> None:
    """Show and check the record of changes."""


@app.command()
def log(
    context: typer.Context,
    object: Annotated[
        str | None, typer.Option(help="Only of this object, e.g. model:late@champion, or model:late*.")
    ] = None,
    principal: Annotated[str | None, typer.Option(help="Only by this one.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this, e.g. alias.move, or schedule.*.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only from then on: a time, or 7d for the last week.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only before: a time, or a duration ago.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
) -> None:
    """List this project's changes, the newest first; --json has the evidence of each and the chain's hashes.

    Example: mlcore audit log --object "model:late*" --since 7d
    """
    call = invocation(context)
    now = call.clock.now_us()
    found = call.metadata.audit_entries(
        object=object,
        principal=principal,
        action=action,
        since_us=_moment(since, now),
        until_us=_moment(until, now),
        limit=limit,
        newest_first=True,
    )
    call.out.table(
        [_shown(one) for one in found],
        ("row", "when", "who, known by", "what", "object", "why"),
        [_row(one) for one in found],
    )


@app.command()
def verify(
    context: typer.Context,
    head: Annotated[
        str | None,
        typer.Option(metavar="HASH", help="A head that was printed and kept elsewhere: a row must have it."),
    ] = None,
) -> None:
    """Walk the whole chain of audit rows; exits with 1 where a row was changed, is missing or out of order.

    Example: mlcore audit verify
    """
    call = invocation(context)
    found = call.metadata.audit_verify(known=head)
    lines = [f"row {one.seq} {one.kind}: {one.text}" for one in found.problems]
    summary = f"{found.rows} rows, {'whole' if found.ok else f'{len(found.problems)} problems'}"
    call.result(asdict(found), "\n".join([*lines, f"{summary}, head {found.head_hash}"]))
    if not found.ok:
        raise typer.Exit(ExitCode.FAILED)


def _moment(text: str | None, now_us: int) -> int | None:
    from mlflow_core.config import parse_duration, parse_time
    from mlflow_core.errors import UsageError

    if text is None:
        return None
    try:
        return now_us - parse_duration(text)
    except UsageError:
        return parse_time(text)


def _shown(entry: AuditEntry) -> dict[str, Any]:
    import orjson

    return {**asdict(entry), "details": orjson.loads(entry.details)}


def _row(entry: AuditEntry) -> tuple[object, ...]:
    from mlflow_core.config import format_time

    why = _shown(entry)["details"].get("why") or ""
    when = format_time(entry.at_us)[:19].replace("T", " ")  # so that it may be folded between the two
    who = f"{entry.principal}, {entry.established}"
    return entry.seq, when, who, entry.action, entry.object, why
