"""What bounds any writer to this Redis: our own with nothing to compute or to pack, and plain commands that compare nothing.

Plain commands are measured twice: a command a row, as views are written one after the other; and a command an entity,
which a writer could only send that has all of its views at once.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.online.comparing import versus
from benchmarks.online.limits import rate_of_csv
from benchmarks.online.stores import RedisServer, redis_server
from benchmarks.online.world import FEATURES_A_VIEW, KEY, VIEWS
from benchmarks.results import Row
from mlflow_core.online.backend import OnlineTable
from mlflow_core.online.codec import RowCodec
from mlflow_core.online.keys import key_records
from mlflow_core.online.redis.backend import RedisBackend
from mlflow_core.online.rows import RowBlock

__all__ = ["write_limit_rows"]

ROWS_A_CALL = 500
AT = 1_704_067_200_000_000
ALONE = "our writer alone, rows packed before"
PLAIN = "Redis alone, an HSET a row, 500 in a pipeline, nothing compared"
TOGETHER = "Redis alone, an HSET an entity, 100 in a pipeline, nothing compared"


def write_limit_rows(
    case: str, n_entities: int, rate: float | None, scratch: Path, said: Callable[[str], None]
) -> list[Row]:
    """Compare a materialisation's rows/s (or nothing) with the limits, on a Redis of their own."""
    limits: dict[str, float] = {}
    blocks = list(_blocks(n_entities))
    with redis_server(scratch / "redis-write-limit") as redis:
        limits[ALONE] = _alone(redis, blocks)
        with redis.client() as client:
            client.flushall()
        n_bytes = blocks[0][1].packed.itemsize
        fields = [view[-6:].rjust(6, "_") for view in VIEWS]
        limits[PLAIN] = _plain(redis, n_entities, n_bytes, [[field] for field in fields])
        with redis.client() as client:
            client.flushall()
        limits[TOGETHER] = _plain(redis, n_entities, n_bytes, [fields])
    for name, limit in limits.items():
        said(f"  {name}: {limit:,.0f} rows/s")
    return [
        versus(case, "entity rows/s", rate, name, limit, more_is_better=True)
        for name, limit in limits.items()
    ]


def _blocks(n_entities: int) -> Iterator[tuple[str, RowBlock]]:
    codec = RowCodec(pa.schema([(f"f{number}", pa.float64()) for number in range(FEATURES_A_VIEW)]))
    for number, view in enumerate(VIEWS):
        rng = np.random.default_rng(number)
        table = pa.table(
            {KEY: rng.permutation(n_entities)} | {name: rng.normal(size=n_entities) for name in codec.names}
        )
        spelled = key_records(table, [KEY])
        assert spelled is not None
        times = np.full(n_entities, AT)
        yield view, RowBlock(spelled, codec.records(table, times, np.zeros(n_entities, np.int64)))


def _alone(redis: RedisServer, blocks: list[tuple[str, RowBlock]]) -> float:
    backend = RedisBackend(f"redis://127.0.0.1:{redis.port}/0", "limit")
    backend.unfinished()  # connects
    start = time.perf_counter()
    for view, block in blocks:
        backend.write(OnlineTable(view, (KEY,)), block)
    taken = time.perf_counter() - start
    backend.close()
    return sum(len(block) for _, block in blocks) / taken


def _plain(redis: RedisServer, n_entities: int, n_bytes: int, commands: Sequence[Sequence[str]]) -> float:
    """Return the rows/s at which every entity is given the fields of each command, one command after the other."""
    binary = shutil.which("redis-benchmark")
    if binary is None:
        raise RuntimeError("redis-benchmark is missing: make bench-online installs it")
    # redis-benchmark writes random numbers in twelve digits: keys are three bytes longer than ours.
    key, value = f"mlc:bench:{KEY}:__rand_int__", "x" * n_bytes
    call = [binary, "-p", str(redis.port), "-c", "1", "-n", str(n_entities), "-r", str(n_entities), "--csv"]
    seconds = 0.0
    for fields in commands:
        at_once = ["-P", str(ROWS_A_CALL // len(fields)), "HSET", key]
        pairs = [part for field in fields for part in (field, value)]
        done = subprocess.run(
            [*call, *at_once, *pairs], capture_output=True, text=True, timeout=300, check=True
        )
        seconds += n_entities / rate_of_csv(done.stdout)
    return n_entities * sum(map(len, commands)) / seconds
