"""One contestant in a process of its own: ``python -m benchmarks.engine.runner NAME ORDER.json``.

The order holds the job, a small job to warm up with, and how often to run; the answer is written beside it. What
is timed goes from files to files; imports, compiling, a cluster's start and Feast's ``apply`` are not.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.engine.job import Call, Job

__all__ = ["CONTESTANTS", "READY", "contestant", "main"]

BYTES_A_ROW, MOST_TOUCHED = 120, 10 << 30  # about what a contestant takes, files included
READY = "ready"  # the file that says that from now on time counts
TOUCHING = "touching"  # the file that is there while neither time nor memory counts

CONTESTANTS = {
    "ours in process": "benchmarks.engine.ours:in_process",
    "ours": "benchmarks.engine.ours:on_dask",
    "polars": "benchmarks.engine.peers.of_polars:polars_",
    "DuckDB": "benchmarks.engine.peers.of_duckdb:duckdb_",
    "Feast Dask": "benchmarks.engine.peers.of_feast:feast_dask",
    "Feast DuckDB": "benchmarks.engine.peers.of_feast:feast_duckdb",
    "dask.dataframe P2P": "benchmarks.engine.peers.of_dask:dask_p2p",
    "the limit": "benchmarks.engine.peers.limit:limit",
    "the limit, sorted": "benchmarks.engine.peers.limit:sorted_limit",
}


def contestant(name: str) -> Any:
    """Import what ``with contestant(name)(job) as ready`` opens; ``ready(job)`` is then what is timed."""
    module, function = CONTESTANTS[name].split(":")
    return getattr(importlib.import_module(module), function)


def main(name: str, order_file: Path) -> None:
    """Run the contestant and write its times.

    A phase runs until it has run ``runs`` times or used ``seconds``. Each cold run has a new cache folder, all warm
    ones have the last of these.
    """
    order = json.loads(order_file.read_text())
    job, small = Job.from_json(order["job"]), order["small"] and Job.from_json(order["small"])
    out, caches = Path(order["out"]), Path(job.scratch) / "caches"
    taken: dict[str, list[float]] = {}
    with contestant(name)(job) as ready:
        if small:
            _timed(ready(small), out / "small", caches / "small")
        call, cache = ready(job), caches / "0"
        (order_file.parent / READY).touch()
        for phase in order["phases"]:
            times = taken.setdefault(phase, [])
            while not times or (len(times) < order["runs"] and sum(times) < order["seconds"]):
                if phase == "cold":
                    shutil.rmtree(cache, ignore_errors=True)
                    cache = caches / str(len(times))
                _touch(job, order_file.parent)
                times.append(_timed(call, out / phase, cache))
                _write(order_file.parent / "answer.json", json.dumps(taken))
    # A layout is as large as its source, and the next contestant's data must fit beside it.
    shutil.rmtree(caches, ignore_errors=True)


def _touch(job: Job, folder: Path) -> None:
    """Have memory ready, as it is on a machine that nobody shares.

    A virtual machine gives pages back that have been free for some seconds. Then whoever runs first is given them anew,
    at two seconds a GB (measured: 19.5 s of ours at 100M events, and 15.5 where the pages were there).
    """
    rows = sum(pq.read_metadata(file).num_rows for one in job.sources for file in one.files)
    touching = f"import numpy; numpy.ones({min(rows * BYTES_A_ROW, MOST_TOUCHED) // 8})"
    (folder / TOUCHING).touch()
    subprocess.run([sys.executable, "-c", touching], check=True)
    (folder / TOUCHING).unlink()


def _write(file: Path, text: str) -> None:
    """Write it whole: whoever takes too long is killed at any moment."""
    half = file.with_suffix(".half")
    half.write_text(text)
    half.replace(file)


def _timed(call: Call, out: Path, cache: Path) -> float:
    # What is there under its own name is whole, should the next run be ended half way.
    half = out.with_name(f"{out.name}-half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    cache.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    call(half, cache)
    taken = time.perf_counter() - start
    # The first answer is kept: a repetition may be ended at any moment, also while it takes another's place.
    if out.exists():
        shutil.rmtree(half)
    else:
        half.rename(out)
    return taken


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
