"""Where steps are started from this process: one warm server, and a guard for each step.

The server is started with the first step; a step costs a fork from then on. Several threads may call at once.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from mlflow_core.workflow.calling.call import Ended, Fault, StepCall
from mlflow_core.workflow.calling.channel import Inbox, send
from mlflow_core.workflow.calling.log import Log

__all__ = ["ForkServer"]

_PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from mlflow_core.workflow.calling.server import serve; serve(int(sys.argv[1]))"
)
_GLANCE_S: Final = 0.25
_END_S: Final = 5.0


class ForkServer:
    """Starts steps in processes of their own, quickly; ends with the ``with`` block, or with this process.

    Example:
        >>> with ForkServer() as server:
        ...     server.running
        False
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: _Started | None = None
        self._end: weakref.finalize[..., ForkServer] | None = None

    @property
    def running(self) -> bool:
        """Whether the server's process is there; it is started with the first step."""
        return self._started is not None and self._started.process.poll() is None

    def call(
        self,
        call: StepCall,
        *,
        timeout_s: float | None,
        stopped: Callable[[], bool],
        told: Callable[[str], None],
        memory_limit: int | None = None,
    ) -> Ended:
        """Run a step in a process of its own and wait for its end.

        Args:
            call: The step.
            timeout_s: After how many seconds it is ended.
            stopped: Asked four times a second; the step is ended when it says so.
            told: Gets each line that the step prints or logs.
            memory_limit: Bytes that its processes may use together.

        Returns:
            How it ended; whatever happens to the step is no error here.
        """
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._hand_over(theirs)
            request = {
                "call": call.to_json(),
                "timeout_s": timeout_s,
                "memory_limit": memory_limit,
                "environment": dict(os.environ),
                "path": list(sys.path),
            }
            send(ours.fileno(), request)
            return _ended(Inbox(ours.fileno()), stopped, Log(told))

    def close(self) -> None:
        """End the server; steps that are running end too when whoever called them does."""
        with self._lock:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hand_over(self, channel: socket.socket) -> None:
        with self._lock:
            if not self.running:
                self._start()
            assert self._started is not None
            try:
                socket.send_fds(self._started.control, [b"!"], [channel.fileno()])
            except (BrokenPipeError, ConnectionError):  # it was ended between two steps
                self._start()
                socket.send_fds(self._started.control, [b"!"], [channel.fileno()])

    def _start(self) -> None:
        self._close()
        self._started = _Started()
        self._end = weakref.finalize(self, self._started.end)

    def _close(self) -> None:
        if self._end is not None:
            self._end()


class _Started:
    """A running server."""

    def __init__(self) -> None:
        self.control, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), json.dumps(sys.path)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the process that asked, which ends its steps in order
                # The order of sets must not change what a step computes.
                env={**os.environ, "PYTHONHASHSEED": "0"},
            )

    def end(self) -> None:
        self.control.close()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _ended(inbox: Inbox, stopped: Callable[[], bool], log: Log) -> Ended:
    asked = False
    poll = select.poll()
    poll.register(inbox.descriptor, select.POLLIN)
    while not inbox.ended:
        if poll.poll(_GLANCE_S * 1000):
            for message in inbox.receive():
                if "log" in message:
                    log.add(message["log"])
                if "ended" in message:
                    return _read(message["ended"], log)
        if not asked and stopped():
            asked = send(inbox.descriptor, {"stop": True})
    return Ended("crashed", fault=Fault("the process that watched it is gone"), log=log.close())


def _read(told: dict[str, Any], log: Log) -> Ended:
    fault = told.pop("fault", None)
    return Ended(**told, fault=None if fault is None else Fault(**fault), log=log.close())
