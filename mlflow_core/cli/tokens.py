"""``mlcore tokens``: bearer tokens of people and services, told once, and ended when they are not to hold any more."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_core.cli.context import invocation

if TYPE_CHECKING:
    from mlflow_core.metadata import Token
    from mlflow_core.metadata.tokens import Role

__all__ = ["app", "create", "list_", "revoke"]

app = typer.Typer(
    help="Make, list and revoke bearer tokens.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)
ForceOption = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Also as somebody who is not known by a token while others are; the audit log says so.",
    ),
]


@app.callback()
def tokens() -> None:
    """Make, list and revoke bearer tokens."""


@app.command()
def create(
    context: typer.Context,
    principal: Annotated[str, typer.Argument(help="Whose it is, e.g. ops@example.org.")],
    role: Annotated[
        str,
        typer.Option(
            help="What it may do at a server: read, write (push rows as well), admin (erase as well)."
        ),
    ] = "read",
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    expires: Annotated[
        str | None, typer.Option(metavar="WHEN", help="When it ends: a time, or a duration such as 90d.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Make a token and print it, this once; only its digest is kept.

    Example: mlcore tokens create ops@example.org --role write --expires 90d
    """
    call = invocation(context)
    made, token = call.metadata.create_token(
        principal, role=_role(role), note=note, expires_us=_ending(expires, _now_us()), force=force
    )
    whose = f"Token {made.id} of {made.principal}, role {made.role} at servers."
    hint = f"{whose} It is not shown again. Use it: export MLCORE_TOKEN=..."
    call.result({"token": token, **_shown(made, _now_us())}, f"{token}\n{hint}")


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the tokens that were made, with who made them and whether they are in force.

    Example: mlcore tokens list
    """
    from mlflow_core.config import format_time

    call = invocation(context)
    now, found = _now_us(), call.metadata.list_tokens()
    rows = [
        (
            one.id,
            one.principal,
            one.role,
            _state(one, now),
            format_time(one.created_us)[:10],
            one.created_by,
            "" if one.expires_us is None else format_time(one.expires_us)[:10],
            one.note,
        )
        for one in found
    ]
    headings = ("id", "principal", "role", "state", "made", "by", "expires", "note")
    call.out.table([_shown(one, now) for one in found], headings, rows)


@app.command()
def revoke(
    context: typer.Context,
    token: Annotated[int, typer.Argument(help="Its number; see: mlcore tokens list.")],
    why: Annotated[str, typer.Option(help="The reason, for the record.")] = "",
    force: ForceOption = False,
) -> None:
    """End a token: at once for commands, within seconds for servers.

    Example: mlcore tokens revoke 3 --why "left the team"
    """
    call = invocation(context)
    ended = call.metadata.revoke_token(token, why=why, force=force)
    call.result(_shown(ended, _now_us()), f"Token {ended.id} of {ended.principal} does not hold any more.")


def _now_us() -> int:
    """The time that it is, whatever clock the project has: tokens end by that one."""
    from mlflow_core.config import SystemClock

    return SystemClock().now_us()


def _role(text: str) -> Role:
    from mlflow_core.errors import UsageError, nearest
    from mlflow_core.metadata.tokens import ROLES

    for role in ROLES:
        if role == text:
            return role
    raise UsageError(f'"{text}" is no role', expected=", ".join(ROLES), hint=nearest(text, ROLES))


def _ending(text: str | None, now_us: int) -> int | None:
    from mlflow_core.config import parse_duration, parse_time
    from mlflow_core.errors import UsageError

    if text is None:
        return None
    try:
        return now_us + parse_duration(text)
    except UsageError:
        return parse_time(text)


def _state(token: Token, now_us: int) -> str:
    if token.revoked_us is not None:
        return "revoked"
    return "in force" if token.in_force(now_us) else "expired"


def _shown(token: Token, now_us: int) -> dict[str, object]:
    return {**asdict(token), "state": _state(token, now_us)}
