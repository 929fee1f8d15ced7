"""A caller as a process of its own, which tests kill: it runs the small training and prints what it is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from distributed import Client

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.spec.recovery import Recovery
from mlflow_core.train.gang.gang import Told, run_gang
from tests.train.gang.counting import Adder, Counting


def main(folder: str, steps: str, address: str = "") -> None:
    settings = (
        ClusterSettings(address=address) if address else ClusterSettings(workers=2, threads=1, memory="1GiB")
    )
    with open_cluster(settings) as client:
        print(json.dumps({"name": "workers", "facts": sorted(pids(client))}), flush=True)
        result = run_gang(
            client,
            Counting(Path(folder), steps=int(steps)),
            ranks=2,
            recovery=Recovery(),
            rendezvous=Adder(),
            told=say,
        )
        print(json.dumps({"name": "results", "facts": result.results}), flush=True)


def pids(client: Client) -> list[int]:
    import os

    return list(client.run(os.getpid).values())


def say(told: Told) -> None:
    print(json.dumps({"name": told.name, "rank": told.rank, "facts": dict(told.facts)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
