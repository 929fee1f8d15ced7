"""The sign of life of a run: a lease that its driver renews while it lives, so that a dead driver is noticed.

A process that is killed cannot write down how its run ended. Its lease then runs out, which ``mlcore runs`` shows
at once, and the next run of the project ends it as crashed.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow_core.errors import MetadataError
from mlflow_core.metadata import MetadataStore
from mlflow_core.telemetry.logs import get_logger

__all__ = ["LEASE_S", "lease_held"]

LEASE_S = 120.0
"""Seconds without a sign of life after which a run's driver counts as lost."""

_log = get_logger(__name__)


@contextmanager
def lease_held(metadata: MetadataStore, run_id: str, *, lease_s: float = LEASE_S) -> Iterator[None]:
    """Hold a run's lease for the time of a ``with`` block, renewed from a thread three times per lease.

    Args:
        metadata: Where the run is written down.
        run_id: The run; it is running.
        lease_s: How long the lease outlives its driver, in seconds.

    Raises:
        MetadataError: Another driver holds it, or the run has ended.
    """
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    metadata.take_lease(run_id, owner, int(lease_s * 1e6))
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(lease_s / 3):
            try:
                metadata.take_lease(run_id, owner, int(lease_s * 1e6))
            except MetadataError as error:
                # The run itself will hear of it when it next writes; a busy database is worth another try.
                _log.warning("the lease of run %s was not renewed: %s", run_id, error)

    thread = threading.Thread(target=renew, name=f"lease-{run_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
