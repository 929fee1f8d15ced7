"""A client whose scheduler has died."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client, LocalCluster

__all__ = ["lost_client"]


@contextmanager
def lost_client() -> Iterator[Client]:
    """A client whose scheduler has just died, and that still hopes for two seconds."""
    with LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        client = Client(cluster.scheduler_address, timeout="2s", heartbeat_interval="50ms")
    while client.status == "running":
        time.sleep(0.01)
    yield client
    client.close()
