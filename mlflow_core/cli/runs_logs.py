"""``mlcore runs logs``: what a run's driver and steps said, while it runs and afterwards.

While a run is under way its log is a file on the machine of its driver; once it has ended it is among its artifacts,
where every machine finds it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_core.cli.context import Invocation, invocation
from mlflow_core.cli.runs_words import is_lost
from mlflow_core.errors import UsageError

if TYPE_CHECKING:
    from mlflow_core.metadata.records import Run

__all__ = ["logs"]

_LOOK_EVERY_S = 0.5


def logs(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="A run's id, the beginning of it, or latest.")] = "latest",
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the run ends; with --json an object a line.")
    ] = False,
    step: Annotated[str | None, typer.Option(help="Only what this step said.")] = None,
) -> None:
    """Show what a run's driver and steps said: when, how serious, which step, what.

    Example: mlcore runs logs latest --follow
    """
    call = invocation(context)
    found = call.metadata.get_run(run)
    if follow:
        for line in _followed(call, found):
            if step is None or line.get("step") == step:
                _say(call, line)
        return
    lines = [line for line in _kept(call, found) if step is None or line.get("step") == step]
    call.result(lines, "\n".join(_text(line) for line in lines))


def _file(call: Invocation, run: Run) -> Path:
    from mlflow_core.workflow.run_log import log_file

    return log_file(call.root, run.id)


def _kept(call: Invocation, run: Run) -> list[dict[str, Any]]:
    """Read the whole log: the file where it is here, else the artifact."""
    from mlflow_core.artifacts import ArtifactStore
    from mlflow_core.workflow.run_log import LOG

    file = _file(call, run)
    if file.is_file():
        return _parsed(file.read_bytes())
    kept = [one for one in call.metadata.list_artifacts(run.id) if one.name == LOG]
    if not kept:
        raise UsageError(
            f"run {run.id} has no log here",
            expected="the machine of its driver, or a run that has ended",
            hint=f"Its steps: mlcore runs show {run.id}",
        )
    artifacts = ArtifactStore(call.settings.artifact_location())
    return _parsed(artifacts.read_bytes(kept[-1].digest))


def _followed(call: Invocation, run: Run) -> Iterator[dict[str, Any]]:
    """Yield lines as they are written, until the run has ended or its driver is lost."""
    file = _file(call, run)
    if run.state.ended or not (file.is_file() or _begins_here(call, run)):
        yield from _kept(call, run)
        return
    with file.open("rb") as stream:
        half = b""
        while True:
            # Asked before reading: what was written before the end is still read after it.
            now = call.metadata.get_run(run.id)
            over = now.state.ended or is_lost(now)
            half += stream.read()
            whole, newline, half = half.rpartition(b"\n")
            yield from _parsed(whole + newline)
            if over:
                return
            time.sleep(_LOOK_EVERY_S)


def _begins_here(call: Invocation, run: Run) -> bool:
    """Wait a moment for the file of a run that has just begun."""
    for _ in range(10):
        if _file(call, run).is_file():
            return True
        if call.metadata.get_run(run.id).state.ended:
            return False
        time.sleep(_LOOK_EVERY_S)
    return False


def _parsed(text: bytes) -> list[dict[str, Any]]:
    import orjson

    return [orjson.loads(line) for line in text.splitlines() if line.endswith(b"}")]


def _say(call: Invocation, line: dict[str, Any]) -> None:
    import orjson

    typer.echo(orjson.dumps(line).decode() if call.json else _text(line))


def _text(line: dict[str, Any]) -> str:
    when = str(line.get("time", ""))[11:19]
    head = f"{when} {line.get('level', ''):<8}{line.get('step', ''):<12}"
    more = [str(line["exception"])] if line.get("exception") else []
    return "\n".join([f"{head}  {line.get('message', '')}", *more])
