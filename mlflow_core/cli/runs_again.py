"""``mlcore runs resume``, ``cancel`` and ``reproduce``: what can be done with a run after it was started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_core.cli.context import invocation

if TYPE_CHECKING:
    from mlflow_core.workflow.reproducing import Reproduction

__all__ = ["cancel", "reproduce", "resume"]

_RUN = typer.Argument(help="A run's id, the beginning of it, or latest.")
_IN_PROCESS = typer.Option("--in-process", help="Start no cluster; right for small data.")


def resume(
    context: typer.Context,
    run: Annotated[str, _RUN],
    in_process: Annotated[bool, _IN_PROCESS] = False,
) -> None:
    """Go on with a run that failed, crashed, was cancelled, or whose driver is gone; finished steps are kept.

    Example: mlcore runs resume latest
    """
    from mlflow_core.cli.train import print_result
    from mlflow_core.cli.tune import print_tuned
    from mlflow_core.cli.workspace import cluster_for, open_workspace
    from mlflow_core.workflow.resuming import resume_run
    from mlflow_core.workflow.training.tuning import Tuned

    call = invocation(context)
    workspace = open_workspace(call)
    found = workspace.metadata.get_run(run)
    spec = workspace.any_pipeline(found.pipeline)
    with cluster_for(workspace, spec, in_process=in_process) as client:
        done = resume_run(workspace, found.id, client=client, progress=call.progress())
    if isinstance(done, Tuned):
        print_tuned(call, done)
    else:
        print_result(call, done)


def cancel(
    context: typer.Context,
    run: Annotated[str, _RUN],
    why: Annotated[str, typer.Option(help="The reason, for the record.")] = "",
) -> None:
    """Ask a run to stop: its driver ends its steps within seconds; without one it is cancelled at once.

    Example: mlcore runs cancel latest --why "wrong settings"
    """
    from mlflow_core.workflow.cancelling import cancel_run

    call = invocation(context)
    found = cancel_run(call.metadata, run, why=why)
    ended = found.state.ended
    data = {"run": found.id, "state": found.state.value, "requested_by": found.cancel_requested_by}
    text = "is cancelled" if ended else f"is asked to stop; its driver is {found.lease_owner}"
    call.result(data, f"run {found.id} {text}")


def reproduce(
    context: typer.Context,
    run: Annotated[str, _RUN],
    in_process: Annotated[bool, _IN_PROCESS] = False,
) -> None:
    """Do a run again from what it was made of, and say whether every output is the same to the bit.

    Nothing is registered. Exit code 1 where something differs.

    Example: mlcore runs reproduce latest
    """
    from mlflow_core.cli.workspace import cluster_for, open_workspace
    from mlflow_core.workflow.reproducing import reproduce_run

    call = invocation(context)
    workspace = open_workspace(call)
    found = workspace.metadata.get_run(run)
    spec = workspace.any_pipeline(found.pipeline)
    with cluster_for(workspace, spec, in_process=in_process) as client:
        done = reproduce_run(workspace, found.id, client=client, progress=call.progress())
    call.result(_data(done), _text(done))
    if not done.same:
        raise typer.Exit(1)


def _data(done: Reproduction) -> dict[str, Any]:
    return {
        "original": done.original,
        "run": done.run_id,
        "same": done.same,
        "steps": [
            {
                "step": one.step,
                "same": one.same,
                "before": one.before,
                "after": one.after,
                "differences": list(one.differences),
            }
            for one in done.steps
        ],
        "notes": list(done.notes),
    }


def _text(done: Reproduction) -> str:
    lines = [f"run {done.original}, done again as run {done.run_id}"]
    for one in done.steps:
        lines.append(f"  {one.step:<18}{'the same to the bit' if one.same else 'differs'}")
        lines += [f"    {difference}" for difference in one.differences]
    lines += [f"note: {note}" for note in done.notes]
    lines.append("every output is the same to the bit" if done.same else "not every output is the same")
    return "\n".join(lines)
