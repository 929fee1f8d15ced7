"""What worker processes on this machine start with: environment variables, and who is listened to."""

from __future__ import annotations

import logging
import signal
from typing import Any, Final

__all__ = ["WORKER_ENVIRONMENT", "dask_setup"]

# Dask's own trim threshold of 64 KiB slows allocating code by half (measured: torch 1.35 to 2.8 times). Arrow's own
# memory pool gives pages back as soon as they are free, and so does an arena of a thread's own; then the kernel clears
# pages for each table anew (measured: retrieving from 100M events, a million page faults, and 51,000 without the two, in a
# tenth less time). One thread for each library, because each worker is one of several processes. A rank that trains alone
# on its host takes more: they sleep where they wait for each other, because on a busy machine threads that spin instead
# took 10 to 20 times as long (measured: a GRU beside an MLP, two threads, five other processes on two processors).
WORKER_ENVIRONMENT: Final = {
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
    "MALLOC_ARENA_MAX": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def dask_setup(worker: Any) -> None:  # noqa: ARG001 Dask calls it so
    """Leave Ctrl-C to the process that asked for the work: a terminal sends it to all, and each would complain.

    Args:
        worker: The worker that preloads this module.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # It warns of each task that was cancelled, which is what was asked for.
    logging.getLogger("distributed.worker.state_machine").setLevel(logging.CRITICAL)
    # Whether a scheduler is lost or has ended is for the process that asked to say.
    logging.getLogger("distributed.worker").addFilter(_is_no_lost_heartbeat)
    # It warns of profiles nested too deeply to be measured, when a performance report asks for them.
    logging.getLogger("distributed.sizeof").setLevel(logging.ERROR)


def _is_no_lost_heartbeat(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Failed to communicate with scheduler during heartbeat")
