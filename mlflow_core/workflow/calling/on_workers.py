"""A step on a Dask worker: which of them runs it is Dask's business, whether it runs once, and still runs, is ours.

Dask cannot stop a task, tries a task again whose worker died, and tells a task nothing of a client that is gone. Here
the task looks four times a second whether it is still wanted, and ends the step's process if not: also when the
driver was killed, because Dask then lets go of its tasks. A step whose worker was lost is not begun again by Dask, but
reported as crashed, so that whoever runs the pipeline decides, and counts.
"""

from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mlflow_core.engine.cluster.lost import told_if_lost
from mlflow_core.engine.cluster.tasks import patience
from mlflow_core.errors import ClusterLost, EngineError
from mlflow_core.train.gang.hearing import take_off
from mlflow_core.train.gang.seats import members
from mlflow_core.workflow.calling.call import Ended, Fault, StepCall
from mlflow_core.workflow.calling.warm import ForkServer

if TYPE_CHECKING:
    from dask.typing import Key
    from distributed import Client, Future, Worker

__all__ = ["call_on_worker"]

_TOPIC: Final = "mlcore-steps"
_NOBODY: Final = ""
_SERVER: Final = "_mlcore_step_server"
_GLANCE_S: Final = 0.25
_ASK_EVERY_S: Final = 1.0
_LINES_AT_ONCE: Final = 200
_END_WITHIN_S: Final = 10.0  # TERM, five seconds, KILL, and the way there and back


def call_on_worker(
    call: StepCall,
    client: Client,
    *,
    timeout_s: float | None,
    stopped: Callable[[], bool],
    told: Callable[[str], None],
) -> Ended:
    """Run a step in a process of its own on one of a cluster's workers.

    Args:
        call: The step.
        client: The cluster's client.
        timeout_s: After how many seconds, counted from its start, it is ended.
        stopped: Asked four times a second; the step is ended when it says so.
        told: Gets each line that the step prints or logs, in this thread.

    Returns:
        How it ended.

    Raises:
        ClusterLost: The cluster went away.
        EngineError: No worker took the step for too long.
    """
    from distributed import Variable

    token = uuid.uuid4().hex
    lost = ClusterLost(
        "the Dask cluster went away while a step was at work", hint="Start a cluster and resume the run."
    )
    with told_if_lost(client, lost), _listening(client, token) as heard:
        Variable(token, client=client).set(_NOBODY)
        future = client.submit(
            _run_on_worker, call, timeout_s, token, key=f"step-{call.name}-{token}", pure=False, retries=0
        )
        try:
            return _wait(client, future, heard, stopped, told)
        finally:
            _forget(client, future, token)


class _Heard:
    """What the worker has told of one step so far."""

    def __init__(self) -> None:
        self.messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.worker: str | None = None
        self.ended: Ended | None = None

    def take(self, told: Callable[[str], None]) -> None:
        while True:
            try:
                message = self.messages.get_nowait()
            except queue.Empty:
                return
            self.worker = message.get("begun", self.worker)
            self.ended = Ended("stopped", worker=message["stopped"]) if "stopped" in message else self.ended
            for line in message.get("lines", ()):
                told(line)


@contextmanager
def _listening(client: Client, token: str) -> Iterator[_Heard]:
    heard = _Heard()

    def hear(event: tuple[float, Any]) -> None:
        if isinstance(event[1], dict) and event[1].get("token") == token:
            heard.messages.put(event[1])

    topic = f"{_TOPIC}-{token}"
    client.subscribe_topic(topic, hear)
    try:
        yield heard
    finally:
        if client.status == "running":
            with suppress(OSError, ValueError):
                take_off(client, topic)


def _wait(
    client: Client,
    future: Future[Any],
    heard: _Heard,
    stopped: Callable[[], bool],
    told: Callable[[str], None],
) -> Ended:
    asked = idle_since = time.monotonic()
    while not _is_done(future):
        heard.take(told)
        now = time.monotonic()
        if stopped():
            client.cancel([future])
            return _stopped(heard, told)
        if now - asked < _ASK_EVERY_S:
            continue
        asked = now
        workers = _workers(client)
        if workers is None:
            continue
        if heard.worker is not None and heard.worker not in workers and not future.done():
            return _lost(heard.worker)
        idle_since = now if workers else idle_since
        if heard.worker is None and now - idle_since > patience():
            raise EngineError(
                f"the Dask cluster has had no worker for {patience():g} s", expected="at least one worker"
            )
    return _result(future, heard, told)


def _is_done(future: Future[Any]) -> bool:
    from distributed import CancelledError, wait
    from distributed import TimeoutError as NotYet

    try:
        wait(future, timeout=_GLANCE_S)
    except NotYet:
        return False
    except CancelledError:
        return True  # the cluster went away; asking for the result says so
    return True


def _stopped(heard: _Heard, told: Callable[[str], None]) -> Ended:
    """Wait for the worker's word that the step's processes are gone."""
    give_up = time.monotonic() + (_END_WITHIN_S if heard.worker is not None else _GLANCE_S)
    while heard.ended is None and time.monotonic() < give_up:
        time.sleep(_GLANCE_S / 5)
        heard.take(told)
    return heard.ended or Ended("stopped", worker=heard.worker or "")


def _result(future: Future[Any], heard: _Heard, told: Callable[[str], None]) -> Ended:
    from distributed import KilledWorker

    try:
        ended: Ended = future.result()
    except KilledWorker:
        return _lost(heard.worker or "of the cluster")
    heard.take(told)
    # Nobody here has asked it to end, so its worker did, which was closing.
    return _lost(ended.worker) if ended.how == "stopped" else ended


def _workers(client: Client) -> set[str] | None:
    """The workers there are, asked of the scheduler; None where it does not answer, and may later."""
    try:
        return set(members(client))
    except OSError:
        return None  # if it is gone, the client gives up its futures, which is told


def _lost(worker: str) -> Ended:
    return Ended("crashed", fault=Fault(f"the worker {worker} was lost while it ran the step"), worker=worker)


def _forget(client: Client, future: Future[Any], token: str) -> None:
    from distributed import Variable

    if client.status != "running":
        return
    with suppress(OSError):
        client.cancel([future])
        Variable(token, client=client).delete()


def _run_on_worker(call: StepCall, timeout_s: float | None, token: str) -> Ended:
    """The task: on a worker, in one of its threads."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    try:
        other = _begun_by(worker, token)
    except TimeoutError:  # whoever asked has given it up meanwhile, and with it the note
        return Ended("stopped", worker=worker.address)
    if other is not None:
        return _lost(other)
    topic = f"{_TOPIC}-{token}"
    worker.log_event(topic, {"token": token, "begun": worker.address})
    lines = _Lines(lambda some: worker.log_event(topic, {"token": token, "lines": some}))
    limit = worker.memory_manager.memory_limit
    ended = _server(worker).call(
        call,
        timeout_s=timeout_s,
        stopped=lambda: _unwanted(worker, key) or lines.flush(),
        told=lines.add,
        memory_limit=limit // worker.state.nthreads if limit else None,
    )
    lines.flush()
    if ended.how == "stopped":
        worker.log_event(topic, {"token": token, "stopped": worker.address})
    return replace(ended, worker=worker.address)


class _Lines:
    """Lines on their way to the driver, some at once."""

    def __init__(self, send: Callable[[list[str]], None]) -> None:
        self._send = send
        self._waiting: list[str] = []

    def add(self, line: str) -> None:
        self._waiting.append(line)
        if len(self._waiting) >= _LINES_AT_ONCE:
            self.flush()

    def flush(self) -> bool:
        if self._waiting:
            self._send(self._waiting)
            self._waiting = []
        return False


def _begun_by(worker: Worker, token: str) -> str | None:
    """The worker that has begun this very call before, if one has; else it is this one.

    Raises:
        TimeoutError: Nobody waits for the call any more.
    """
    from distributed import Variable, get_client

    begun = Variable(token, client=get_client())
    other = str(begun.get(timeout=_ASK_EVERY_S))
    if other == _NOBODY:
        begun.set(worker.address)
        return None
    return other


def _server(worker: Worker) -> ForkServer:
    """The worker's own fork server: kept with the worker, since both end together."""
    server: ForkServer = worker.__dict__.setdefault(_SERVER, ForkServer())
    return server


def _unwanted(worker: Worker, key: Key) -> bool:
    from distributed.core import Status

    state = worker.state.tasks.get(key)
    leaves = worker.status in (Status.closing, Status.closed, Status.failed)
    return leaves or state is None or state.state != "executing"
