"""A load held to a rate, that goes on whatever breaks, and counts every answer by its status and every break by its kind.

``python -m benchmarks.online.steady ORDER.json`` in a process of its own, on uvloop: wrk can neither hold a rate nor tell one
failure from another. Requests become due evenly; one that finds no free connection waits for the next.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.online.process import run_to_end

__all__ = ["CUT", "REFUSED", "SILENT", "Steady", "drive_steadily", "whole_answer"]

REFUSED, CUT, SILENT = "connection refused", "connection cut", "no answer in time"
PATIENCE = 15.0  # seconds until a request counts as never answered
LONGEST = 300.0  # seconds beyond those it must go on for
TICK, RETRY = 0.001, 0.05


@dataclass(frozen=True)
class Steady:
    """What came of it.

    Attributes:
        rate: Answers with status 200, a second.
        seconds: How long it went on.
        p99_ms: Of these.
        counts: Answers by ``status N``, breaks by kind.
        breaks: When each break came, by kind, on this machine's monotonic clock.
    """

    rate: float
    seconds: float
    p99_ms: float
    counts: dict[str, int]
    breaks: dict[str, list[float]]


def drive_steadily(
    port: int,
    path: str,
    bodies: Path,
    *,
    seconds: float,
    connections: int,
    rate: float | None,
    folder: Path,
    stop: Path | None = None,
) -> Steady:
    """Post bodies in turn from another process.

    Args:
        port: The server's.
        path: The route.
        bodies: A file with one body a line.
        seconds: How long at least.
        connections: How many at once.
        rate: Requests a second over all connections; None for as many as are answered.
        folder: For its order and its answer.
        stop: It goes on until this file is there; None for no longer than it must.
    """
    order, answer = folder / "steady.json", folder / "steady-answer.json"
    told = {"port": port, "path": path, "bodies": str(bodies), "seconds": seconds, "answer": str(answer)}
    stop = stop or folder
    order.write_text(json.dumps({**told, "connections": connections, "rate": rate, "stop": str(stop)}))
    command = [sys.executable, "-m", "benchmarks.online.steady", order]
    run_to_end(command, log=folder / "steady.log", within=seconds + LONGEST)
    return Steady(**json.loads(answer.read_text()))


def whole_answer(received: bytes | bytearray) -> tuple[str, bool] | None:
    """Return the status of a whole answer and whether the connection stays; None while something is missing."""
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return None
    length, stays = 0, True
    for line in head.lower().split(b"\r\n")[1:]:
        if line.startswith(b"content-length:"):
            length = int(line[15:])
        elif line.startswith(b"connection:"):
            stays = b"close" not in line
    return (head[9:12].decode(), stays) if len(body) >= length else None


class _Load:
    """All connections and what they have seen."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        head = f"POST {order['path']} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        self.requests = [
            f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
            for body in Path(order["bodies"]).read_bytes().splitlines()
        ]
        self.free: deque[_Connection] = deque()
        self.busy: set[_Connection] = set()
        self.counts: Counter[str] = Counter()
        self.breaks: dict[str, list[float]] = {}
        self.taken: list[float] = []
        self.sent = 0
        self.over, self.seconds = False, 0.0

    async def run(self) -> None:
        keepers = [asyncio.create_task(self._keep()) for _ in range(self.order["connections"])]
        start, rate, now = time.monotonic(), self.order["rate"], 0.0
        while not self.ended(start, now):
            now = time.monotonic()
            due = len(self.free) if rate is None else int((now - start) * rate) - self.sent
            for _ in range(min(due, len(self.free))):
                self.free.popleft().send(self.requests[self.sent % len(self.requests)])
                self.sent += 1
            for one in [one for one in self.busy if now - one.since > PATIENCE]:
                one.give_up()
            await asyncio.sleep(TICK if rate is not None else 0)
        self.over, self.seconds = True, now - start
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)

    def ended(self, start: float, now: float) -> bool:
        if now < start + self.order["seconds"]:
            return False
        return Path(self.order["stop"]).exists() or now > start + self.order["seconds"] + LONGEST / 2

    def broke(self, kind: str) -> None:
        if not self.over:
            self.counts[kind] += 1
            self.breaks.setdefault(kind, []).append(time.monotonic())

    async def _keep(self) -> None:
        """Keep one connection open."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                _, one = await loop.create_connection(
                    lambda: _Connection(self), "127.0.0.1", self.order["port"]
                )
            except OSError as error:
                self.broke(REFUSED if isinstance(error, ConnectionRefusedError) else CUT)
                await asyncio.sleep(RETRY)
                continue
            await one.lost.wait()


class _Connection(asyncio.Protocol):
    def __init__(self, load: _Load) -> None:
        self.load, self.lost, self.since = load, asyncio.Event(), 0.0
        self.received = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.load.free.append(self)

    def send(self, request: bytes) -> None:
        assert self.transport is not None
        self.since = time.monotonic()
        self.load.busy.add(self)
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        whole = whole_answer(self.received)
        if whole is None or self not in self.load.busy:
            return
        status, stays = whole
        self.received.clear()
        self.load.busy.discard(self)
        self.load.counts[f"status {status}"] += 1
        if status == "200":
            self.load.taken.append(time.monotonic() - self.since)
        if stays:
            self.load.free.append(self)
        elif self.transport is not None:
            self.transport.close()

    def give_up(self) -> None:
        assert self.transport is not None
        self.load.busy.discard(self)
        self.load.broke(SILENT)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self in self.load.busy:
            self.load.busy.discard(self)
            self.load.broke(CUT)
        if self in self.load.free:
            self.load.free.remove(self)
        self.lost.set()


def main(order: Path) -> None:
    """Do what the order says."""
    asked = json.loads(order.read_text())
    load = _Load(asked)
    uvloop.run(load.run())
    p99 = float(np.quantile(load.taken, 0.99)) * 1e3 if load.taken else 0.0
    answer = {"rate": len(load.taken) / load.seconds, "p99_ms": p99}
    Path(asked["answer"]).write_text(
        json.dumps({**answer, "seconds": load.seconds, "counts": load.counts, "breaks": load.breaks})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
