"""The root of the command: global options, and verbs that are imported when they are called.

Global options may be written before or after the verb; they are moved to the front before anything is parsed.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mlflow_core.cli.context import Invocation
from mlflow_core.cli.verbs import VERBS

__all__ = ["GLOBAL_FLAGS", "GLOBAL_OPTIONS", "app", "hoisted"]

GLOBAL_FLAGS = ("--json", "-v", "-vv", "--verbose", "--yes")
GLOBAL_OPTIONS = ("--root", "--env", "--as")


class LazyVerbs(TyperGroup):
    """A group whose commands come from the table of verbs."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 (typer's signature)
        """Return the verbs in the table's order."""
        return [verb.name for verb in VERBS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 (typer's signature)
        """Import a verb's module and return its command; None where there is no such verb."""
        for verb in VERBS:
            if verb.name == cmd_name:
                module, _, attribute = verb.app.partition(":")
                command = typer.main.get_command(getattr(importlib.import_module(module), attribute))
                command.name = verb.name
                return command
        return None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb that was typed, or say which one was probably meant."""
        # typer suggests from this mapping, which a lazy group leaves empty.
        self.commands = dict.fromkeys((verb.name for verb in VERBS), self)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 (typer's signature)
        """Write the list of verbs from the table, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb.name, verb.help) for verb in VERBS])


app = typer.Typer(
    cls=LazyVerbs,
    name="mlcore",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    epilog="Exit codes: 0 ok, 1 failed, 2 usage or bad spec, 3 gate failed, 4 plan has changes, 5 awaits approval.",
)


@app.callback()
def root(
    context: typer.Context,
    root: Annotated[
        Path | None, typer.Option(help="The project's folder; by default the nearest one with mlcore.toml.")
    ] = None,
    env: Annotated[str | None, typer.Option(help="Which env/NAME.toml lies on top of mlcore.toml.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, show_default=False, help="Say more; -vv says all.")
    ] = 0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    principal: Annotated[
        str | None,
        typer.Option("--as", help="Who does this, where no token says it; by default the OS user."),
    ] = None,
) -> None:
    """Declare features and training pipelines, plan, apply, train and serve them.

    Example: mlcore plan
    """
    from mlflow_core.telemetry.logs import configure_logging

    configure_logging(verbose, json_lines=json)
    if principal is not None:
        from mlflow_core.config.principal import check_claim

        check_claim(principal)  # also where the verb asks nobody who acts
    call = Invocation(
        given_root=root,
        env=env,
        json=json,
        verbosity=verbose,
        yes=yes,
        given_principal=principal,
        secret=context.obj if isinstance(context.obj, list) else [],
    )
    context.obj = call
    context.call_on_close(call.close)


def hoisted(arguments: Sequence[str]) -> list[str]:
    """Move global options to the front, wherever they were written; what follows ``--`` is left alone.

    Args:
        arguments: What was typed after ``mlcore``.

    Example:
        >>> hoisted(["plan", "--json", "--root", "here"])
        ['--json', '--root', 'here', 'plan']
    """
    front: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for word in waiting:
        if word == "--":
            rest += [word, *waiting]
        elif word in GLOBAL_FLAGS or word.startswith(tuple(f"{name}=" for name in GLOBAL_OPTIONS)):
            front.append(word)
        elif word in GLOBAL_OPTIONS:
            front += [word, *([value] if (value := next(waiting, None)) is not None else [])]
        else:
            rest.append(word)
    return front + rest
