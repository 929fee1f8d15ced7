"""A load held to a rate, that goes on whatever breaks, and counts every answer by its status and every break by its kind.

``python -m benchmarks.online.steady ORDER.json`` in a process of its own: wrk can neither hold a rate nor tell one failure
from another. Requests become due evenly; one that finds no free connection waits for the next. It shares the machine
with the servers, so it does as little as it can: sockets without a framework, and at a rate it looks for answers once a
millisecond, by which latencies are too long.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.online.process import run_to_end

__all__ = ["CUT", "REFUSED", "SILENT", "Steady", "drive_steadily", "whole_answer"]

REFUSED, CUT, SILENT = "connection refused", "connection cut", "no answer in time"
PATIENCE = 15.0  # seconds until a request counts as never answered
LONGEST = 300.0  # seconds beyond those it must go on for
TICK, RETRY, SWEEP = 0.001, 0.05, 0.25


@dataclass(frozen=True)
class Steady:
    """What came of it.

    Attributes:
        rate: Answers with status 200, a second.
        offered: Requests sent, a second.
        seconds: How long it went on.
        p99_ms: Of these.
        counts: Answers by ``status N``, breaks by kind.
        breaks: When each break came, by kind, on this machine's monotonic clock.
    """

    rate: float
    offered: float
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


_HEADERS = re.compile(rb"\r\n(content-length|connection): *([^\r]*)", re.IGNORECASE)


def whole_answer(received: bytes) -> tuple[str, bool] | None:
    """Return the status of a whole answer and whether the connection stays; None while something is missing."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    length, stays = 0, True
    for name, value in _HEADERS.findall(received, 0, end):
        if len(name) == len("content-length"):
            length = int(value)
        else:
            stays = b"close" not in value.lower()
    return (received[9:12].decode(), stays) if len(received) >= end + 4 + length else None


class _Load:
    """All connections and what they have seen."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        head = f"POST {order['path']} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        self.requests = [
            f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
            for body in Path(order["bodies"]).read_bytes().splitlines()
        ]
        self.poll = select.epoll()
        self.open: dict[int, _Connection] = {}
        self.free: deque[_Connection] = deque()
        self.counts: Counter[str] = Counter()
        self.breaks: dict[str, list[float]] = {}
        self.taken: list[float] = []
        self.sent = 0
        self.seconds = 0.0
        self._next_try = self._next_sweep = 0.0

    def run(self) -> None:
        start, rate = time.monotonic(), self.order["rate"]
        now = start
        while not self.ended(start, now):
            if len(self.open) < self.order["connections"] and now >= self._next_try:
                self._connect(now)
            due = len(self.free) if rate is None else int((now - start) * rate) - self.sent
            for _ in range(min(due, len(self.free))):
                self.free.popleft().send(self.requests[self.sent % len(self.requests)], now)
                self.sent += 1
            if now >= self._next_sweep:
                self._sweep(now)
            if rate is None:
                ready = self.poll.poll(SWEEP)
            else:  # many answers are taken at once, which costs least
                time.sleep(TICK)
                ready = self.poll.poll(0)
            now = time.monotonic()
            for number, _ in ready:
                self.open[number].receive(now)
        self.seconds = now - start
        for one in self.open.values():
            one.socket.close()

    def ended(self, start: float, now: float) -> bool:
        if now < start + self.order["seconds"]:
            return False
        return Path(self.order["stop"]).exists() or now > start + self.order["seconds"] + LONGEST / 2

    def broke(self, kind: str) -> None:
        self.counts[kind] += 1
        self.breaks.setdefault(kind, []).append(time.monotonic())

    def _connect(self, now: float) -> None:
        while len(self.open) < self.order["connections"]:
            try:
                connected = socket.create_connection(("127.0.0.1", self.order["port"]), timeout=RETRY)
            except OSError as error:
                self.broke(REFUSED if isinstance(error, ConnectionRefusedError) else CUT)
                self._next_try = now + RETRY
                return
            connected.setblocking(False)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.open[connected.fileno()] = one = _Connection(self, connected)
            self.poll.register(connected, select.EPOLLIN)
            self.free.append(one)

    def _sweep(self, now: float) -> None:
        self._next_sweep = now + SWEEP
        for one in list(self.open.values()):
            if one.since is not None and now - one.since > PATIENCE:
                one.end(SILENT)


class _Connection:
    def __init__(self, load: _Load, connected: socket.socket) -> None:
        self.load, self.socket = load, connected
        self.since: float | None = None  # when the request was sent that is not answered yet
        self.received = b""

    def send(self, request: bytes, now: float) -> None:
        self.since = now
        try:
            if self.socket.send(request) < len(request):
                raise RuntimeError("a request did not fit into its socket")
        except OSError:
            self.end(CUT)

    def receive(self, now: float) -> None:
        try:
            data = self.socket.recv(1 << 18)
        except OSError:
            data = b""
        if not data:
            self.end(None if self.since is None else CUT)
            return
        self.received += data
        whole = whole_answer(self.received)
        if whole is None or self.since is None:
            return
        status, stays = whole
        if status == "200":
            self.load.taken.append(now - self.since)
        self.load.counts[f"status {status}"] += 1
        self.received, self.since = b"", None
        if stays:
            self.load.free.append(self)
        else:
            self.end(None)

    def end(self, kind: str | None) -> None:
        """Close it; it is replaced by another. ``kind`` says how it broke."""
        if kind is not None:
            self.load.broke(kind)
        if self in self.load.free:
            self.load.free.remove(self)
        self.load.poll.unregister(self.socket)
        del self.load.open[self.socket.fileno()]
        self.socket.close()


def main(order: Path) -> None:
    """Do what the order says."""
    asked = json.loads(order.read_text())
    load = _Load(asked)
    load.run()
    p99 = float(np.quantile(load.taken, 0.99)) * 1e3 if load.taken else 0.0
    answer = {"rate": len(load.taken) / load.seconds, "offered": load.sent / load.seconds, "p99_ms": p99}
    Path(asked["answer"]).write_text(
        json.dumps({**answer, "seconds": load.seconds, "counts": load.counts, "breaks": load.breaks})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
