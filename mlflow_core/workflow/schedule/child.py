"""A command that ends with the process that started it: what a scheduler starts must not outlive it.

``python -m mlflow_core.workflow.schedule.child -- COMMAND...`` asks the kernel for an interrupt when its parent is gone,
however that went, and becomes the command. Where there is no such kernel it just becomes the command.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

__all__ = ["Child", "start_child", "what_was_said"]

_PR_SET_PDEATHSIG: Final = 1
_PARENT: Final = "MLCORE_STARTED_BY"


@dataclass(frozen=True)
class Child:
    """A command that was started.

    Attributes:
        process: It; the leader of a process group of its own.
        output: What it printed, and its errors.
    """

    process: subprocess.Popen[bytes]
    output: Path

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        return self.process.poll()

    def interrupt(self) -> None:
        """Ask it to end as Ctrl-C does; it has a state to leave in which it can be resumed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it and all that it has started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start_child(command: Sequence[str], output: Path, *, folder: Path) -> Child:
    """Start a command that ends with this process.

    Args:
        command: Its words; the first is a program.
        output: A file that gets what it prints; what is in it is replaced.
        folder: Where it runs.

    Returns:
        It; call this from a thread that lives as long as the process, for Linux ends the child with the thread.

    Raises:
        OSError: It cannot be started.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("wb") as stream:
        process = (
            subprocess.Popen(  # in its own group: a Ctrl-C in the terminal is its scheduler's to pass on
                [sys.executable, "-m", __name__, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, _PARENT: str(os.getpid())},
                start_new_session=True,
            )
        )
    return Child(process, output)


def what_was_said(lines: Sequence[str], status: int, *, of_these: int = 1) -> str:
    """The message of what a child printed last: our commands end with one JSON line where they fail.

    Args:
        lines: What it printed.
        status: Its exit status.
        of_these: How many of the last lines may be that line.
    """
    for line in reversed(lines[-of_these:]):
        try:
            return str(orjson.loads(line)["error"]["message"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    return f"ended with {how}" + (f": {lines[-1][:200]}" if lines else "")


def _end_with_parent() -> None:
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
    if os.environ.get(_PARENT, str(os.getppid())) != str(os.getppid()):
        raise SystemExit(1)  # the parent was gone before it could be asked for


if __name__ == "__main__":
    _end_with_parent()
    words = sys.argv[sys.argv.index("--") + 1 :]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.execvp(words[0], words)
