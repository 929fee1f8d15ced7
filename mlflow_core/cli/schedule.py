"""``mlcore schedule``: what is started by itself, and when; pause, resume and start it by hand."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_core.cli.context import invocation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow_core.cli.context import Invocation
    from mlflow_core.workflow.schedule.child import Child
    from mlflow_core.workflow.schedule.scheduler import Scheduler

__all__ = [
    "app",
    "list_schedules",
    "look",
    "next_times",
    "open_scheduler",
    "pause",
    "resume",
    "run",
    "told_to_end",
]

app = typer.Typer(
    help="List, pause, resume and start schedules.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="The schedule: its pipeline's name, or view:NAME.")]


@app.callback()
def schedule() -> None:
    """List, pause, resume and start schedules."""


@app.command("list")
def list_schedules(context: typer.Context) -> None:
    """List the schedules in force, with when each is due next, what it waits for and saw, and what came of its last start.

    Example: mlcore schedule list
    """
    from mlflow_core.cli.schedule_words import last_of, starts_of, state_of
    from mlflow_core.config.times import format_time

    call = invocation(context)
    found = call.metadata.list_schedules()
    now = call.clock.now_us()
    rows = [
        (
            one.name,
            starts_of(one),
            state_of(one, now),
            "" if one.next_us is None else format_time(one.next_us),
            last_of(one),
        )
        for one in found
    ]
    call.out.table([asdict(one) for one in found], ("schedule", "starts", "state", "next", "last"), rows)


@app.command()
def pause(
    context: typer.Context,
    name: Name,
    why: Annotated[str, typer.Option(help="The reason, for the record.")] = "",
) -> None:
    """Let a schedule start nothing until it is resumed; what it has started goes on.

    Example: mlcore schedule pause late_arrival --why "the source is being mended"
    """
    call = invocation(context)
    found = call.metadata.pause_schedule(name, why=why)
    call.result(asdict(found), f"{name} is paused. To start it again: mlcore schedule resume {name}")


@app.command()
def resume(context: typer.Context, name: Name) -> None:
    """Let a paused schedule start again; times of a cron line that came meanwhile are not made up for.

    A view is materialised, and a source looked at, as soon as a scheduler is up.

    Example: mlcore schedule resume late_arrival
    """
    from mlflow_core.config.times import format_time
    from mlflow_core.workflow.schedule.times import next_time

    call = invocation(context)
    one, now = call.metadata.get_schedule(name), call.clock.now_us()
    due = now if one.cron is None else next_time(one.cron, one.zone, now)
    found = call.metadata.resume_schedule(name, next_us=due)
    when = "never by its cron line" if found.next_us is None else f"next {format_time(found.next_us)}"
    call.result(asdict(found), f"{name} is due {when}.")


@app.command()
def look(context: typer.Context, name: Name) -> None:
    """Look now at what a schedule waits for, and say what is seen; nothing is started, and nothing kept in mind.

    Of drifting features rows are read only where data have changed since a scheduler looked.

    Example: mlcore schedule look late_arrival
    """
    from mlflow_core.cli.workspace import open_workspace
    from mlflow_core.errors import UsageError
    from mlflow_core.workflow.schedule.conditions import condition_of
    from mlflow_core.workflow.schedule.measuring import measure_drift
    from mlflow_core.workflow.schedule.sight import Training
    from mlflow_core.workflow.schedule.watching import is_watch

    call = invocation(context)
    one = call.metadata.get_schedule(name)
    if not is_watch(one):
        raise UsageError(
            f'schedule "{name}" waits for no condition', hint=f"When it is due: mlcore schedule next {name}"
        )
    training = Training(
        call.metadata, lambda told: measure_drift(open_workspace(call), told, now_us=call.clock.now_us())
    )
    condition = condition_of(one.triggers["when"], str(call.repo), training)
    sight = condition.look(one.seen.get("started_with"), one.seen.get("last"))
    data = {"schedule": name, "why": sight.why, "told": sight.told, "found": dict(sight.found)}
    call.result(data, f"{name}: {'a reason to start' if sight.why else 'no reason to start'}: {sight.told}")


@app.command("next")
def next_times(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Only this schedule.", show_default=False)] = None,
    count: Annotated[int, typer.Option(help="How many times of each.", min=1, max=1000)] = 5,
) -> None:
    """Say when schedules are due next, also across changes of summer time; paused ones are not started then.

    Of what waits for a condition only the next look can be told.

    Example: mlcore schedule next late_arrival --count 3
    """
    from mlflow_core.cli.schedule_words import local_time, next_of
    from mlflow_core.config.times import format_time

    call = invocation(context)
    store = call.metadata
    now = call.clock.now_us()
    data, rows = [], []
    for one in [store.get_schedule(name)] if name is not None else store.list_schedules():
        what, times = next_of(one, now, count)
        for time in times:
            at, local = format_time(time), local_time(time, one.zone)
            data.append({"name": one.name, "what": what, "at_us": time, "at": at, "local": local})
            rows.append((one.name, what, at, local, "paused" if one.paused else ""))
    call.out.table(data, ("schedule", "", "UTC", "there", ""), rows)


@app.command()
def run(context: typer.Context, name: Name) -> None:
    """Start a schedule's pipeline or materialisation now and wait for it; when it is due next stays as it is.

    Example: mlcore schedule run late_arrival
    """
    call = invocation(context)
    call.metadata.get_schedule(name)
    with told_to_end() as stopped:
        ended = open_scheduler(call).run_now(name, stopped)
    call.result(
        asdict(ended), f"{name}: {ended.error or 'done'}" + (f", run {ended.run}" if ended.run else "")
    )
    if ended.status != 0:
        raise typer.Exit(1)


def open_scheduler(call: Invocation, *, look_s: float = 1.0) -> Scheduler:
    """Make the scheduler of a call's project, which starts ``mlcore train`` and ``materialize`` with the call's own options.

    Args:
        call: The call.
        look_s: How often it looks at what is due, in seconds.
    """
    from mlflow_core.workflow.schedule.looking import found_by
    from mlflow_core.workflow.schedule.scheduler import Scheduler

    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    start = _start(call)
    return Scheduler(
        call.metadata,
        call.clock,
        lambda pipeline: start(["train", pipeline], pipeline),
        owner,
        lambda line: typer.echo(line, err=True),
        look_s=look_s,
        # A view is in one process at a time, so that the first one's name is a log's own.
        materialise=lambda views: start(["materialize", *views, *_clock(call)], f"view-{views[0]}"),
        base=str(call.repo),
        measure=lambda told: found_by(start(["schedule", "look", told["of"]], f"look-{told['of']}")),
    )


@contextmanager
def told_to_end() -> Iterator[threading.Event]:
    """Set an event, instead of ending at once, where this process is asked to end by SIGTERM or Ctrl-C."""
    stopped = threading.Event()

    def stop(_number: int, _frame: Any) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _clock(call: Invocation) -> list[str]:
    """What a materialisation is told of the time: a clock that runs from a moment on would start there once more."""
    from mlflow_core.config.times import format_time

    return [] if call.settings.clock.value == "system" else ["--clock", format_time(call.clock.now_us())]


def _start(call: Invocation) -> Callable[[Sequence[str], str], Child]:
    from mlflow_core.workflow.schedule.child import start_child

    options = ["--root", str(call.root), "--json"]
    options += ["--env", call.env] if call.env is not None else []
    options += ["--as", call.given_principal] if call.given_principal is not None else []
    logs = call.settings.root / ".mlcore" / "logs"

    def start(words: Sequence[str], log: str) -> Child:
        command = [sys.executable, "-m", "mlflow_core.cli", *options, *words]
        return start_child(command, logs / f"schedule-{log}.log", folder=call.root)

    return start
