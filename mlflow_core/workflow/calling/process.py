"""The step's own process, from its start to its function: its group, its streams, its environment.

It is started before there is a step for it, and waits; what it needs of Python and Arrow it has from its parent.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlflow_core.workflow.calling.body import run_body
from mlflow_core.workflow.calling.call import StepCall
from mlflow_core.workflow.calling.channel import Inbox, send
from mlflow_core.workflow.calling.kernel import Prctl, die_with_parent, first_to_go

__all__ = ["Process", "start_process"]


@dataclass(frozen=True, slots=True)
class Process:
    """A process that waits for its step.

    Attributes:
        id: Its number, which is its process group's too.
        orders: Where the step is sent to it; closed, it ends.
        log: What it and all that it starts say, a descriptor that does not block.
        result: Where it tells what ``body.run_body`` returns, a descriptor that does not block.
    """

    id: int
    orders: int
    log: int
    result: int


def start_process(prctl: Prctl, not_for_it: Iterable[int]) -> Process:
    """Start a process for a step.

    Args:
        prctl: From ``kernel.prepared``.
        not_for_it: Descriptors that the process must not hold on to.
    """
    (taken, orders), (log, said), (result, answer) = os.pipe(), os.pipe(), os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            die_with_parent(prctl, parent)
            first_to_go()
            for descriptor in (*not_for_it, orders, log, result):
                os.close(descriptor)
            _wait_and_run(taken, said, answer)
        except BaseException:  # the end of a process
            traceback.print_exc()
        finally:
            os._exit(1)
    for descriptor in (taken, said, answer):
        os.close(descriptor)
    os.set_blocking(log, False)
    os.set_blocking(result, False)
    return Process(child, orders, log, result)


def _wait_and_run(orders: int, said: int, answer: int) -> None:
    # SIGPIPE stays ignored, as Python has it: a connection that closes is an error that can be caught.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    request = Inbox(orders).wait()
    os.close(orders)
    if request is None:
        os._exit(0)
    os.environ.clear()
    # The order of sets is to be the same in interpreters that the step starts, too.
    os.environ.update({**request["environment"], "PYTHONHASHSEED": "0"})
    sys.path[:] = request["path"]
    _say_into(said)
    told = run_body(StepCall.from_json(request["call"]), Path(request["folder"]))
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the function may have closed it
            stream.flush()
    send(answer, told)
    os._exit(0)


def _say_into(said: int) -> None:
    """Let all that the process, and what it starts, prints or logs go to one place, and nothing come in."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(descriptor, number)
    for descriptor in (nothing, said):
        os.close(descriptor)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(
            io.FileIO(number, "w", closefd=False), "utf-8", "backslashreplace", line_buffering=True
        )
        for number in (1, 2)
    )
