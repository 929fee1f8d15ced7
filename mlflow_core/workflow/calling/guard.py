"""The guard of one step: a small process between whoever asked for the step and the step's own process.

It starts the step in a process group of its own, passes on what it says, and is the one place that ends it: when it
takes too long, uses too much memory, on request, and when whoever asked is gone, which its closed channel tells. First
by TERM, after five seconds by KILL, and with it every process that the step had started, also one that left the group.
A guard does nothing else, so neither a busy step nor a busy worker keeps it from doing so.
"""

from __future__ import annotations

import codecs
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mlflow_core.workflow.calling.channel import Inbox, Outbox, send
from mlflow_core.workflow.calling.kernel import Prctl, adopt_orphans, memory_of, offspring
from mlflow_core.workflow.calling.process import Process, start_process

__all__ = ["GRACE_S", "stand_by"]

GRACE_S: Final = 5.0
"""How long a step that was told to end may take before it is killed."""
_LEFTOVERS_S: Final = 1.0  # processes of a step that has ended itself
_LOOK_S: Final = 0.5
_AT_ONCE: Final = 1 << 16
_UNHEARD: Final = 1 << 20  # bytes that wait for whoever asked


@dataclass
class _Watch:
    """One step while it runs."""

    channel: Inbox
    outbox: Outbox
    child: int
    log: int
    result: Inbox
    deadline: float | None
    memory_limit: int | None
    log_open: bool = True
    text: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )
    why: str | None = None
    kill_at: float | None = None
    answer: dict[str, Any] | None = None
    status: int = 0
    usage: Any = None
    over: bool = False


def stand_by(control: socket.socket, taken: int, prctl: Prctl) -> None:
    """Start a step's process beforehand, wait until a step is handed over, run it and tell how it ended.

    Args:
        control: A Unix socket, on which each byte comes with the channel of one step; its other end is held by whoever
            asked alone.
        taken: A pipe that is told ``t`` when there is a step, ``c`` when the other side of ``control`` has closed.
        prctl: From ``kernel.prepared``.
    """
    adopt_orphans(prctl)
    process = start_process(prctl, (control.fileno(), taken))
    _, handed, _, _ = socket.recv_fds(control, 1, 1)
    control.close()
    os.write(taken, b"t" if handed else b"c")
    os.close(taken)
    if not handed:
        return
    inbox = Inbox(handed[0])
    request = inbox.wait()
    if request is None:
        return
    outbox = Outbox(inbox.descriptor)
    outbox.put({"ended": _guarded(inbox, outbox, request, process)})
    os.set_blocking(inbox.descriptor, True)  # nothing is left to watch
    outbox.flush()


def _guarded(inbox: Inbox, outbox: Outbox, request: dict[str, Any], process: Process) -> dict[str, Any]:
    try:
        folder = Path(tempfile.mkdtemp(prefix="mlcore-step-", dir=request["call"]["workdir"]))
    except OSError as error:
        fault = {"what": f"no working folder can be made: {error}", "place": None, "hint": None}
        return {"how": "crashed", "fault": fault}
    timeout_s = request["timeout_s"]
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    result, limit = Inbox(process.result), request["memory_limit"]
    watch = _Watch(inbox, outbox, process.id, process.log, result, deadline, limit)
    try:
        send(process.orders, {**request, "folder": str(folder)})
        os.set_blocking(
            inbox.descriptor, False
        )  # whoever asked may be slow to listen, which must not slow the watch
        _watched(watch)
        _end_leftovers(watch)
        while _read_log(watch):
            pass
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _told(watch)


def _watched(watch: _Watch) -> None:
    """Look at everything that can happen, until the step's own process has ended."""
    ends = _descriptor_of(watch.child)
    if watch.channel.left():  # it was to end before it was begun
        _end(watch, "stopped")
    while not _has_ended(watch):
        poll = select.poll()
        for descriptor, events in _interest(watch, ends):
            poll.register(descriptor, events)
        for descriptor, event in poll.poll(_patience(watch, told=ends is not None) * 1000):
            _happened(watch, descriptor, event)
        _look(watch)
    if ends is not None:
        os.close(ends)
    for message in watch.result.receive():
        watch.answer = message


def _interest(watch: _Watch, ends: int | None) -> Iterator[tuple[int, int]]:
    """What to wait for; of a step that says more than is listened to nothing is read, so it waits too."""
    listen = 0 if watch.channel.ended else select.POLLIN
    talk = select.POLLOUT if watch.outbox.size else 0
    if listen or talk:
        yield watch.channel.descriptor, listen | talk
    if watch.log_open and watch.outbox.size < _UNHEARD:
        yield watch.log, select.POLLIN
    if not watch.result.ended:
        yield watch.result.descriptor, select.POLLIN
    if ends is not None:
        yield ends, select.POLLIN


def _happened(watch: _Watch, descriptor: int, event: int) -> None:
    if descriptor == watch.log:
        watch.log_open = _read_log(watch)
    elif descriptor == watch.result.descriptor:
        for message in watch.result.receive():
            watch.answer = message
    elif descriptor == watch.channel.descriptor:
        if event & select.POLLOUT:
            watch.outbox.flush()
        if event & ~select.POLLOUT and (watch.channel.receive() or watch.channel.ended):
            _end(watch, "stopped")


def _descriptor_of(process: int) -> int | None:
    """A descriptor that is readable when the process has ended, where the kernel has such."""
    try:
        return os.pidfd_open(process)
    except (AttributeError, OSError):
        return None


def _patience(watch: _Watch, *, told: bool) -> float:
    now = time.monotonic()
    times = [60.0 if told else 0.02]
    times += [at - now for at in (watch.deadline, watch.kill_at) if at is not None]
    times += [_LOOK_S] if watch.memory_limit is not None else []
    return max(0.0, min(times))


def _has_ended(watch: _Watch) -> bool:
    while not watch.over:
        process, status, usage = os.wait4(-1, os.WNOHANG)
        if process == 0:
            return False
        if process == watch.child:  # else one that was left to us
            watch.over, watch.status, watch.usage = True, status, usage
    return True


def _read_log(watch: _Watch) -> bool:
    """Pass on what the step has said; False where nothing is there, or nobody can say anything more."""
    try:
        read = os.read(watch.log, _AT_ONCE)
    except BlockingIOError:
        return False
    if text := watch.text.decode(read, final=not read):
        watch.outbox.put({"log": text})
    watch.outbox.flush()
    return bool(read)


def _look(watch: _Watch) -> None:
    now = time.monotonic()
    if watch.deadline is not None and now >= watch.deadline:
        watch.deadline = None
        _end(watch, "timeout")
    if (
        watch.memory_limit is not None
        and memory_of([watch.child, *offspring(watch.child)]) > watch.memory_limit
    ):
        watch.memory_limit = None
        _end(watch, "memory", at_once=True)  # the machine may have no five seconds left
    if watch.kill_at is not None and now >= watch.kill_at:
        watch.kill_at = now + _LOOK_S
        _signal(watch, signal.SIGKILL)


def _end(watch: _Watch, why: str, *, at_once: bool = False) -> None:
    if watch.why is None:
        watch.why = why
        watch.kill_at = time.monotonic() + (0.0 if at_once else GRACE_S)
        if not at_once:
            _signal(watch, signal.SIGTERM)


def _signal(watch: _Watch, number: int) -> None:
    """Signal the step's process group, and what it started outside of the group."""
    outside = offspring(os.getpid())
    for send_signal, target in [(os.killpg, watch.child), *((os.kill, one) for one in outside)]:
        with suppress(ProcessLookupError, PermissionError):
            send_signal(target, number)


def _end_leftovers(watch: _Watch) -> None:
    """End the processes that the step left behind; they would be nobody's."""
    if _nobody_left(watch):
        return
    _signal(watch, signal.SIGTERM)
    give_up = time.monotonic() + _LEFTOVERS_S
    while not _nobody_left(watch):
        if time.monotonic() >= give_up:
            _signal(watch, signal.SIGKILL)
        time.sleep(0.01)


def _nobody_left(watch: _Watch) -> bool:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return False  # there is one that has not ended
    except ChildProcessError:
        pass
    try:
        os.killpg(watch.child, 0)  # where orphans are not left to us
    except (ProcessLookupError, PermissionError):
        return True
    return False


def _told(watch: _Watch) -> dict[str, Any]:
    used = watch.usage
    scale = 1 if sys.platform == "darwin" else 1024
    figures = {
        "memory_bytes": used.ru_maxrss * scale,
        "cpu_us": int((used.ru_utime + used.ru_stime) * 1e6),
    }
    if watch.why in ("stopped", "timeout"):
        return {"how": watch.why, **figures}
    if watch.why is None and watch.answer is not None:
        return {**watch.answer, **figures}
    return {"how": "crashed", "fault": {"what": _why_crashed(watch), "place": None, "hint": None}, **figures}


def _why_crashed(watch: _Watch) -> str:
    if watch.why == "memory":
        return "was ended because it used more memory than it may"
    number = os.waitstatus_to_exitcode(watch.status)
    if number >= 0:
        return f"its process ended with exit status {number}, without a result"
    try:
        name = signal.Signals(-number).name
    except ValueError:
        name = f"signal {-number}"
    guess = "; most likely the machine ran out of memory" if -number == signal.SIGKILL else ""
    return f"its process was ended by {name}{guess}"
