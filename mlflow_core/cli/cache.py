"""``mlcore cache``: what retrievals keep of their sources, and how to be rid of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_core.cli.context import invocation

if TYPE_CHECKING:
    from mlflow_core.cli.context import Invocation
    from mlflow_core.engine.layouts.cache import Cache, CacheEntry

__all__ = ["app", "clean", "list_entries"]

app = typer.Typer(
    help="List and empty the cache of sources' layouts.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)


@app.callback()
def cache() -> None:
    """List and empty the cache of sources' layouts."""


@app.command("list")
def list_entries(context: typer.Context) -> None:
    """List what is kept, the one used longest ago first; a retrieval on a cluster finds it again.

    Example: mlcore cache list
    """
    from mlflow_core.config.sizes import format_size

    call = invocation(context)
    found = _cache(call).entries()
    columns = ("source", "part", "columns", "rows", "size", "last used")
    call.out.table([_data(one) for one in found], columns, [_row(one) for one in found])
    if not call.json:
        total = format_size(sum(one.bytes for one in found))
        settings = call.settings.cache
        call.out.result(None, f"{_entries(len(found))}, {total} of {settings.size} in {settings.location}")


@app.command()
def clean(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Remove everything.")] = False,
    older_than: Annotated[
        str | None, typer.Option(help="Remove what was not used for so long, e.g. 7d.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Remove what was used longest ago until so much is left, e.g. 5GiB.")
    ] = None,
) -> None:
    """Remove entries that no running retrieval uses, and what killed writers left; by default down to the limit.

    Example: mlcore cache clean --older-than 7d
    """
    from mlflow_core.config.sizes import format_size, parse_size
    from mlflow_core.config.times import parse_duration
    from mlflow_core.errors import UsageError

    if everything + (older_than is not None) + (to is not None) > 1:
        raise UsageError("only one of --all, --older-than and --to can be given")
    call = invocation(context)
    kept = _cache(call)
    unused_for = None if older_than is None else parse_duration(older_than) / 1e6
    limit = 0 if everything else None if to is None else parse_size(to)
    removed = kept.trim(to=limit, unused_for=unused_for)
    left = kept.entries()
    size, in_use = sum(one.bytes for one in removed), sum(one.in_use for one in left)
    data = {"removed": [_data(one) for one in removed], "bytes": size, "left": len(left), "in_use": in_use}
    text = f"removed {_entries(len(removed))}, {format_size(size)}; {len(left)} left"
    call.result(data, f"{text}, {in_use} of them in use" if in_use else text)


def _cache(call: Invocation) -> Cache:
    from mlflow_core.engine.layouts.cache import Cache

    return Cache(Path(call.settings.cache.location), call.settings.cache.limit)


def _data(entry: CacheEntry) -> dict[str, object]:
    facts = {name: value for name, value in entry.facts.items() if name != "files"}
    used = round(entry.used * 1e6)
    return {**facts, "name": entry.name, "bytes": entry.bytes, "used_us": used, "in_use": entry.in_use}


def _row(entry: CacheEntry) -> tuple[object, ...]:
    from mlflow_core.config.sizes import format_size
    from mlflow_core.config.times import format_time

    facts = entry.facts
    used = "in use" if entry.in_use else format_time(int(entry.used) * 1_000_000) if entry.used else "never"
    columns = ", ".join(facts.get("columns", [])) or facts.get("kind", "unreadable")
    return (
        facts.get("source"),
        facts.get("part"),
        columns,
        facts.get("rows"),
        format_size(entry.bytes),
        used,
    )


def _entries(n: int) -> str:
    return "1 entry" if n == 1 else f"{n} entries"
