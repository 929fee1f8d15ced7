"""What bounds any server here: an empty handler on the same stack, and Redis alone with the same commands."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.online.comparing import versus
from benchmarks.online.empty import SERVERS
from benchmarks.online.load import Load, drive, write_bodies
from benchmarks.online.servers import empty_server
from benchmarks.online.serving import FEASTS, WARM_UP, Driven
from benchmarks.online.stores import RedisServer, redis_server
from benchmarks.online.world import CASES, Case, bodies, keys_asked
from benchmarks.results import Row

__all__ = ["Empty", "empty_handlers", "hmget_rates", "limit_rows"]

SMALL, CASE = CASES[:2]  # 1 x 10, 1 x 50
MOST_CPU = 1 / 5  # at most five times an empty handler's, for 1 x 50
BODY_BYTES = {SMALL.name: 1_300, CASE.name: 6_000}  # of an answer, where none was measured
FIELD_BYTES = 112
STOCK = "uvicorn"


@dataclass(frozen=True)
class Empty:
    """What an empty handler did under the load of a case."""

    load: Load
    cpu_us: float


def limit_rows(
    ours: Driven | None, n_entities: int, *, seconds: float, scratch: Path, said: Callable[[str], None]
) -> list[Row]:
    """Compare ours (or nothing) with the limits."""
    rows: list[Row] = []
    for case, names in ((SMALL, (STOCK,)), (CASE, SERVERS)):
        mine = None if ours is None else ours.figures.get((FEASTS.path, case.name))
        n_bytes = mine.body_bytes if mine else BODY_BYTES[case.name]
        for name, empty in empty_handlers(
            case, n_entities, n_bytes, seconds=seconds, scratch=scratch, said=said, names=names
        ).items():
            peer, goal = f"empty handler, {name}", MOST_CPU if (case, name) == (CASE, STOCK) else None
            cpu, rate = (mine.cpu_us, mine.load.rate) if mine else (None, None)
            told = f"{case.name}, {n_bytes} bytes"
            rows.append(versus(told, "server CPU us a request", cpu, peer, empty.cpu_us, goal=goal))
            rows.append(versus(told, "requests/s", rate, peer, empty.load.rate, more_is_better=True))
            rows.append(versus(told, "p99 ms", mine.load.p99_ms if mine else None, peer, empty.load.p99_ms))
    with redis_server(scratch / "redis-limit") as redis:
        for (case_name, peer), rate in hmget_rates(redis, seconds=seconds, said=said).items():
            found = None if ours is None else ours.figures.get((FEASTS.path, case_name))
            answered = found.load.rate if found else None
            rows.append(versus(case_name, "requests/s", answered, peer, rate, more_is_better=True))
    return rows


def empty_handlers(
    case: Case,
    n_entities: int,
    n_bytes: int,
    *,
    seconds: float,
    scratch: Path,
    said: Callable[[str], None],
    names: Sequence[str] = SERVERS,
) -> dict[str, Empty]:
    """Drive empty handlers under each server with the requests of a case."""
    file = write_bodies(scratch / "empty.txt", bodies(case, keys_asked(case, n_entities, 2_000)))
    found = {}
    for name in names:
        with empty_server(scratch, name, n_bytes) as server:
            drive(server.url, FEASTS.path, file, seconds=WARM_UP)
            spent = server.cpu()
            load = drive(server.url, FEASTS.path, file, seconds=seconds)
            found[name] = one = Empty(load, (server.cpu() - spent) / max(load.requests, 1) * 1e6)
        said(
            f"  {case.name}: empty handler, {name}: {load.rate:,.0f}/s, p50 {load.p50_ms:.2f} ms, p99 {load.p99_ms:.2f} ms, "
            f"{one.cpu_us:.1f} us CPU"
        )
    return found


def hmget_rates(
    redis: RedisServer, *, seconds: float, said: Callable[[str], None]
) -> dict[tuple[str, str], float]:
    """Return requests/s of Redis alone by (case, what it is): a field a view of random hashes, one or 100 at a time."""
    binary = shutil.which("redis-benchmark")
    if binary is None:
        raise RuntimeError("redis-benchmark is missing: make bench-online installs it")
    every = [f"v{number}" for number in range(len(CASE.views))]
    n_keys = 20_000
    with redis.client() as client, client.pipeline(transaction=False) as pipe:
        for number in range(n_keys):
            # redis-benchmark writes random numbers in twelve digits.
            pipe.hset(f"k:{number:012d}", mapping=dict.fromkeys(every, b"x" * FIELD_BYTES))
        pipe.execute()
    found: dict[tuple[str, str], float] = {}
    for case in (SMALL, CASE, CASES[-1]):
        pipeline, fields = case.entities, every[: len(case.views)]
        n = int(seconds * (40_000 if pipeline == 1 else 150_000))
        command = [
            binary,
            "-p",
            str(redis.port),
            "-c",
            "8",
            "-P",
            str(pipeline),
            "-n",
            str(n),
            "-r",
            str(n_keys),
        ]
        done = subprocess.run(
            [*command, "--csv", "HMGET", "k:__rand_int__", *fields],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        rate = rate_of_csv(done.stdout) / pipeline
        how = f"Redis alone, {'one HMGET' if pipeline == 1 else f'{pipeline} HMGET in a pipeline'}"
        found[case.name, how] = rate
        said(f"  {case.name}: {how}: {rate:,.0f}/s")
    return found


def rate_of_csv(text: str) -> float:
    """Read the commands a second of the last line that redis-benchmark prints with ``--csv``."""
    line = [one for one in text.splitlines() if one.strip()][-1]
    return float(line.split('","')[1].strip('"'))
