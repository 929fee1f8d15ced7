"""A retrieval in a process of its own, to be interrupted or killed: ``python -m tests.chaos.retrieving FOLDER``.

It says ``computing`` as soon as the workers are at work, and does what the command does with Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.engine.route import OnDask
from tests.chaos.world import BUCKETS, World


def main(folder: Path) -> None:
    """Retrieve over and over until somebody ends it."""
    world = World(folder, folder / "work", folder / "out")
    with open_cluster(ClusterSettings(workers=2, memory="1GiB")) as client:
        print("workers", *client.run(os.getpid).values(), flush=True)
        route = OnDask(client, world.work, buckets=BUCKETS)
        while True:
            world.shards(route)
            print("computing", flush=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
