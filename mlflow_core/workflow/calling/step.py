"""Call a user's step: here, or on a worker; its output's digest comes back, or an error that says whether to try again."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.errors import ArtifactError, StepCancelled, StepCrashed, StepError, StepFailed, StepTimeout
from mlflow_core.spec import Step
from mlflow_core.workflow.calling.call import Called, Ended, StepCall, Stored
from mlflow_core.workflow.calling.warm import ForkServer
from mlflow_core.workflow.code import digest_of_code

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["call_of", "call_step"]


def call_of(
    step: Step,
    outputs: Mapping[str, Stored],
    *,
    artifacts: ArtifactStore,
    project: tuple[Path, ...],
    seed: int = 0,
    workdir: Path | None = None,
    code: Mapping[str, str] | None = None,
) -> StepCall:
    """Say what is called for a step of a pipeline.

    Args:
        step: The step.
        outputs: What it may read, by the names of steps.
        artifacts: Where the outputs are, and its own goes.
        project: Folders that the project's code is imported from.
        seed: What random numbers start from.
        workdir: Folder for drafts, on storage that the workers reach.
        code: What ``digest_of_code`` said when the output's key was made; by default what it says now.

    Raises:
        ArtifactError: The store is in the memory of this process, where no other can read it.
    """
    if artifacts.location.startswith("memory:"):
        raise ArtifactError(
            "cannot be read by a step's process",
            place=artifacts.location,
            expected="a folder, or storage that all machines reach",
        )
    if code is None:
        code = {} if step.function is None else digest_of_code(step.function, project=project)
    return StepCall(
        name=step.name,
        import_path=step.import_path,
        store=artifacts.location,
        arguments={parameter: outputs[source] for parameter, source in step.inputs.items()},
        params=dict(step.params),
        project=tuple(str(one.resolve()) for one in project),
        seed=seed,
        code=code,
        workdir=None if workdir is None else str(workdir),
    )


def call_step(
    call: StepCall,
    *,
    client: Client | None = None,
    timeout_s: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
    told: Callable[[str], None] = lambda line: None,  # noqa: ARG005 (who listens names it)
    server: ForkServer | None = None,
) -> Called:
    """Call a user's step in a process of its own, and wait for it.

    The process has its own process group. When it is to end, it and all that it started get TERM, and after five
    seconds KILL. It ends so too when this process, or the worker that runs it, is gone.

    Args:
        call: The step and what it reads.
        client: The cluster on one of whose workers it runs; None runs it on this machine.
        timeout_s: After how many seconds, counted from its start, it is ended.
        stopped: Asked four times a second; the step is ended when it says so.
        told: Gets each line that the step prints or logs.
        server: Where processes are started from without a cluster; several steps share one, else each pays its start.

    Returns:
        The output, which is in the store, with what it cost.

    Raises:
        StepFailed: It raised an error, cannot be imported, or returned what it had not promised. Not to be tried again.
        StepCrashed: Its process ended without a result, used too much memory, or its worker was lost.
        StepTimeout: It took longer than it may.
        StepCancelled: ``stopped`` said so.
        EngineError: The cluster went away, or has no worker.

    Example:
        >>> from mlflow_core.artifacts import ArtifactStore
        >>> from mlflow_core.spec import step
        >>> _ = Path("sums.py").write_text('''
        ... import mlflow_core as ml
        ...
        ... @ml.step
        ... def total(*, of: list) -> int:
        ...     print("adding", of)
        ...     return sum(of)
        ... ''')
        >>> call = StepCall("total", "sums:total", str(Path("store").resolve()), params={"of": [1, 2]}, project=(str(Path.cwd()),))
        >>> called = call_step(call, told=print)
        adding [1, 2]
        >>> ArtifactStore("store").read_bytes(called.digest)
        b'3'
    """
    if client is None:
        with nullcontext(server) if server is not None else ForkServer() as here:
            ended = here.call(call, timeout_s=timeout_s, stopped=stopped, told=told)
        ended = replace(ended, worker=socket.gethostname())
    else:
        from mlflow_core.workflow.calling.on_workers import call_on_worker

        ended = call_on_worker(call, client, timeout_s=timeout_s, stopped=stopped, told=told)
    if ended.how != "finished":
        raise _error(call, ended, timeout_s)
    return Called(
        ended.digest, ended.kind, ended.size, ended.worker, ended.memory_bytes, ended.cpu_us, ended.log
    )


def _error(call: StepCall, ended: Ended, timeout_s: float | None) -> StepError:
    title = f'Step "{call.name}"'
    if ended.how == "timeout":
        error: StepError = StepTimeout(f"took longer than {timeout_s:g} s and was ended", object=title)
    elif ended.how == "stopped":
        error = StepCancelled("was ended on request", object=title)
    else:
        kind = StepFailed if ended.how == "failed" else StepCrashed
        what = ended.fault.what if ended.fault else "ended without a result"
        place, hint = (ended.fault.place, ended.fault.hint) if ended.fault else (None, None)
        error = kind(what, object=title, place=place, hint=hint)
    # Of a step whose watcher or worker was lost nothing is known: zeros would be taken for figures.
    return error.with_log(
        ended.log,
        worker=ended.worker or None,
        memory_bytes=ended.memory_bytes or None,
        cpu_us=ended.cpu_us or None,
    )
