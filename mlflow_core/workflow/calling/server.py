"""A warm process that steps are forked from: Python, Arrow and this package are loaded in it once.

It has one thread of Python's and imports nothing of a project, so each step starts at once and sees the code as it is
on disk. The process for the next step stands by. All ends with the process that started it.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import time
import traceback
from typing import Final

# What steps need is loaded here, so that it is there after the fork; Arrow asks for pandas when it is given a list.
import pandas  # noqa: F401
import pyarrow.compute
import pyarrow.pandas_compat
import pyarrow.parquet  # noqa: F401

from mlflow_core.workflow.calling.guard import stand_by
from mlflow_core.workflow.calling.kernel import Prctl, prepared

__all__ = ["serve"]

_TAKEN: Final = b"t"
_CLOSED: Final = b"c"
_BREATH_S: Final = 0.1
_TRIES: Final = 5


def serve(descriptor: int) -> None:
    """Keep a guard standing by for the next step, until the other side closes.

    Args:
        descriptor: A connected Unix socket, on which each byte comes with the channel of one step.
    """
    prctl = prepared()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # guards that have ended need no burial
    gc.collect()
    gc.freeze()  # else the first collection of each step would copy all that is loaded here
    with socket.socket(fileno=descriptor) as control:
        lost = 0
        while lost < _TRIES:  # whoever asks is told when this process gives up
            told = _guard_told(control, prctl)
            if told == _CLOSED:
                return
            lost = 0 if told == _TAKEN else lost + 1
            time.sleep(_BREATH_S * lost)


def _guard_told(control: socket.socket, prctl: Prctl) -> bytes:
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            os.close(reader)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            stand_by(control, writer, prctl)
        except BaseException:  # the end of a process
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writer)
    told = os.read(reader, 1)
    os.close(reader)
    return told
