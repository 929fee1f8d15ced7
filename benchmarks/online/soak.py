"""``make bench-online ARGS=soak``: a minute at 70 % of the most load, with a registry change, a killed worker, a restarted Redis.

Beside the load every answer of 200 requests a second is judged, and a writer pushes. The Redis is
killed without warning: it writes every command to disk before it answers, so what was acknowledged must be there again.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.online.changing import AFTER, BEFORE, Ledger
from benchmarks.online.load import write_bodies
from benchmarks.online.process import Running, free_port, run_to_end, until
from benchmarks.online.repository import Repository, make_repository
from benchmarks.online.servers import our_server
from benchmarks.online.steady import CUT, SILENT, Steady, drive_steadily
from benchmarks.online.stores import redis_server
from benchmarks.online.watching import Seen, Watch
from benchmarks.online.world import CASES, World, bodies, keys_asked, make_world
from benchmarks.results import Row

__all__ = ["Told", "soak", "soak_rows"]

CASE = CASES[1]  # 1 x 50
ROUTE = "/get-online-features"
SHARE = 0.7
WORKERS = 2
CONNECTIONS = 32
TOKEN, TOKEN_VARIABLE = "a-token-of-one-soak", "BENCH_ONLINE_TOKEN"
ENVIRONMENT = {TOKEN_VARIABLE: TOKEN}
MAY_WRITE = f'[serve.tokens]\nsoak = "${{env:{TOKEN_VARIABLE}}}"\n'
AFTERMATH = 5.0  # seconds after a fault in which a cut connection is its doing


@dataclass
class Told:
    """When things were done to the server, and how long it took to be itself again."""

    at: dict[str, float] = field(default_factory=dict)
    recovered: dict[str, float] = field(default_factory=dict)


def soak(scratch: Path, *, n_entities: int, seconds: float, said: Callable[[str], None]) -> list[Row]:
    """Run it.

    Args:
        scratch: A folder.
        n_entities: How many.
        seconds: How long; faults come at a sixth, a third and a half of it.
        said: Told what goes on.
    """
    world = make_world(scratch / "world", n_entities)
    file = write_bodies(scratch / "bodies.txt", bodies(CASE, keys_asked(CASE, n_entities, 2_000)))
    ledger, told = Ledger(n_entities), Told()
    with ExitStack() as stores:
        port = free_port()
        store = stores.enter_context(ExitStack())
        redis = store.enter_context(redis_server(scratch / "redis", port=port, durable=True))
        repository = make_repository(scratch, "ours", "redis", str(port))
        with (repository.root / "mlcore.toml").open("a") as settings:
            settings.write(MAY_WRITE)
        _apply(repository, world, later=False)
        with our_server(repository, workers=WORKERS, environment=ENVIRONMENT) as server:
            _driven(server, file, 2.0, None, scratch)  # warms up
            watch = Watch(server.port, world, ledger, TOKEN)
            watch.start()  # judging and pushing are a part of the load: of the most as of its share
            most = _driven(server, file, 5.0, None, scratch)
            said(f"  most: {most.rate:,.0f} requests/s with {WORKERS} workers")
            stop = scratch / "stop"  # however long the faults take, the load goes on
            load = _Load(server, file, seconds, most.rate * SHARE, scratch, stop)
            load.start()
            start = time.monotonic()
            _wait(start, seconds / 6)
            _change(repository, world, watch, told, said)
            _wait(start, seconds / 3)
            _kill_worker(server, told, said)
            _wait(start, seconds / 2)
            os.kill(redis.running.pid, signal.SIGKILL)
            _restart_redis(store, scratch / "redis", port, watch, told, said)
            _wait(start, seconds)
            stop.touch()
            load.join()
            watch.stop()
            until(lambda: _ready(server), 30, what="after the soak")
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            lost = watch.judge_all(connection)
            connection.close()
    if load.result is None:
        raise RuntimeError("the load told no result")
    return soak_rows(watch.seen, told, load.result, most, lost)


def soak_rows(seen: Seen, told: Told, load: Steady, most: Steady, lost: int) -> list[Row]:
    """Return what was seen as rows; what must be nothing is compared with 0."""
    case = f"soak, {load.seconds:.0f} s at {load.offered / most.rate:.0%} of {most.rate:,.0f} requests/s"

    def nothing(metric: str, found: float, note: str = "") -> Row:
        return Row(case, metric, float(found), "at most", 0.0, None, None, found == 0, found == 0, note)

    unexplained = [
        moment
        for kind in (CUT, SILENT)
        for moment in (*seen.when.get(kind, []), *load.breaks.get(kind, []))
        if kind == SILENT or not any(0 <= moment - at <= AFTERMATH for at in told.at.values())
    ]
    share = round(load.offered / most.rate, 2)
    rows = [
        Row(case, "requests/s sent", load.offered, "the most", most.rate, share, SHARE, share >= SHARE),
        Row(case, "requests/s answered 200", load.rate, "the most", most.rate, load.rate / most.rate),
        nothing("wrong rows", seen.wrong, f"of {seen.answers:,} answers judged {seen.first_wrong}".strip()),
        nothing("lost writes", lost, f"{seen.pushed:,} pushes of 10 rows acknowledged"),
        nothing(
            "failures that nothing explains",
            len(unexplained),
            "no answer in time, or a connection cut when nothing was killed",
        ),
    ]
    counted = {f"checker, {kind}": count for kind, count in seen.failures.items()}
    counted |= {f"load, {kind}": count for kind, count in load.counts.items()}
    rows += [Row(case, what, float(count), "", None, None) for what, count in sorted(counted.items())]
    rows.append(Row(case, "p99 ms", load.p99_ms, "at the most load", most.p99_ms, None))
    for what, taken in told.recovered.items():
        rows.append(Row(case, f"{what}, s until well again", taken, "", None, None))
    return rows


class _Load(threading.Thread):
    """The load in the background."""

    def __init__(self, *ask: Any) -> None:
        super().__init__(daemon=True)
        self.result: Steady | None = None
        self._ask = ask

    def run(self) -> None:
        self.result = _driven(*self._ask)


def _driven(
    server: Running, file: Path, seconds: float, rate: float | None, folder: Path, stop: Path | None = None
) -> Steady:
    return drive_steadily(
        server.port,
        ROUTE,
        file,
        seconds=seconds,
        connections=CONNECTIONS,
        rate=rate,
        folder=folder,
        stop=stop,
    )


def _apply(repository: Repository, world: World, *, later: bool) -> float:
    """Apply in a child process; return when that was done."""
    order = repository.root / f"apply-{later}.json"
    told = {"world": str(world.folder), "entities": world.n_entities, "later": later}
    order.write_text(json.dumps({**told, "repo": str(repository.repo)}))
    command = [sys.executable, "-m", "benchmarks.online.changing", order]
    run_to_end(command, log=order.with_suffix(".log"), within=120, environment=ENVIRONMENT)
    return float(order.with_suffix(".applied").read_text())


def _change(
    repository: Repository, world: World, watch: Watch, told: Told, said: Callable[[str], None]
) -> None:
    applied = _apply(repository, world, later=True)
    until(lambda: len(AFTER) in watch.seen.features, 30, what="the service has not gained its feature")
    assert len(BEFORE) in watch.seen.features
    told.recovered["registry change"] = watch.seen.features[len(AFTER)] - applied
    said(f"  registry changed: {told.recovered}")


def _kill_worker(server: Running, told: Told, said: Callable[[str], None]) -> None:
    before = _workers(server)
    if len(before) != WORKERS:
        raise RuntimeError(f"{len(before)} workers where {WORKERS} were asked for")
    told.at["killed worker"] = start = time.monotonic()
    os.kill(before[0], signal.SIGKILL)

    def replaced() -> bool:
        return len([pid for pid in _workers(server) if pid != before[0]]) == WORKERS

    until(replaced, 30, what="the killed worker was not replaced")
    told.recovered["killed worker"] = time.monotonic() - start
    said(f"  worker killed: {told.recovered}")


def _workers(server: Running) -> list[int]:
    """Return the processes that serve: children started afresh, without Python's own tracker of resources."""
    found = []
    for child in psutil.Process(server.pid).children():
        try:
            words = " ".join(child.cmdline())
        except psutil.NoSuchProcess:
            continue
        if "spawn_main" in words and "resource_tracker" not in words:
            found.append(child.pid)
    return found


def _restart_redis(
    store: ExitStack, folder: Path, port: int, watch: Watch, told: Told, said: Callable[[str], None]
) -> None:
    told.at["restarted Redis"] = start = time.monotonic()
    store.close()  # it is dead already
    time.sleep(1.0)  # down for as long as somebody would notice
    store.enter_context(redis_server(folder, port=port, durable=True))
    before = watch.seen.answers
    until(lambda: watch.seen.answers > before + 20, 30, what="no answer after Redis came back")
    told.recovered["restarted Redis"] = time.monotonic() - start
    said(f"  Redis restarted: {told.recovered}")


def _ready(server: Running) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _wait(start: float, seconds: float) -> None:
    time.sleep(max(0.0, start + seconds - time.monotonic()))
