"""A small training for the gang: ranks that add up shares of the same items in lockstep, and checkpoint the total.

The total depends on every step and on their order, and not on how many ranks share the items: so a total that is equal to
``truth`` says that no step was left out, done twice, or done from a wrong state. Disasters are real signals.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlflow_core.errors import TrainError
from mlflow_core.train.gang.checkpoints import Checkpoints
from mlflow_core.train.gang.rank import CHECKPOINT, Disrupted, Rank

ITEMS = 24
PRIME = (1 << 61) - 1


@dataclass(frozen=True)
class Disaster:
    """What happens to a rank of the first attempt, and when."""

    rank: int
    place: Literal["load", "step", "write"]
    step: int = 0
    kind: Literal["kill", "stop", "error", "bug", "memory", "disk", "exit", "disrupted"] = "kill"


@dataclass(frozen=True)
class Counting:
    """What each rank does."""

    folder: Path | str
    steps: int = 40
    every: int = 5
    pause: float = 0.002
    disasters: tuple[Disaster, ...] = ()
    identity: str = "counting"
    clings: bool = False  # a peer's loss or the end of the rendezvous does not wake it
    ignores: bool = False  # it never asks whether it was stopped

    def __call__(self, rank: Rank) -> int:
        kept = Checkpoints(self.folder, self.identity)
        self._meet("load", 0, rank)
        last = kept.last()
        at, total = (last.at, last.facts["total"]) if last else (0, 1)
        rank.tell("began", {"at": at, "pid": os.getpid(), "when": time.time(), "count": rank.count})
        with _adding(rank, clings=self.clings) as add:
            for step in range(at, self.steps):
                if rank.stopped() and not self.ignores:
                    raise Disrupted("it was stopped")
                self._meet("step", step, rank)
                own = sum(value(step, item) for item in range(rank.index, ITEMS, rank.count))
                total = then(total, add(own))
                time.sleep(self.pause)
                if (step + 1) % self.every == 0 and rank.index == 0:
                    files = _Files({"first": b"a" * 5000, "second": b"b" * 5000})
                    files.half_way = lambda step=step: self._meet("write", step, rank)
                    kept.write(step + 1, files, {"total": total})
                    rank.tell(CHECKPOINT, {"at": step + 1})
                rank.tell("step", {"at": step, "pid": os.getpid()})
        return total

    def _meet(self, place: str, step: int, rank: Rank) -> None:
        for disaster in self.disasters if rank.attempt == 0 else ():
            if (disaster.place, disaster.step, disaster.rank) != (place, step, rank.index):
                continue
            rank.tell("disaster", {"when": time.time(), "pid": os.getpid()})
            match disaster.kind:
                case "kill":
                    time.sleep(0.02)  # what was told is on its way
                    os.kill(os.getpid(), signal.SIGKILL)
                case "stop":
                    time.sleep(0.02)
                    os.kill(os.getpid(), signal.SIGSTOP)
                case "exit":
                    os._exit(3)
                case "error":
                    raise TrainError("the loss is NaN", object=f"step {step}")
                case "bug" | "memory" | "disk" as kind:
                    raise _RAISED[kind]
                case "disrupted":
                    raise Disrupted("connection refused")


_RAISED = {
    "bug": ZeroDivisionError("a bug"),
    "memory": MemoryError("cannot allocate 3 GiB"),
    "disk": OSError(28, "No space left on device"),
}


def value(step: int, item: int) -> int:
    return (step * 7919 + item * 104729) % 1000


def then(total: int, added: int) -> int:
    return (total * 31 + added) % PRIME


def truth(steps: int = 40) -> int:
    total = 1
    for step in range(steps):
        total = then(total, sum(value(step, item) for item in range(ITEMS)))
    return total


class _Files(dict[str, bytes]):
    """Files of which the first is written when something happens."""

    half_way: Callable[[], None]

    def values(self) -> Any:
        for number, data in enumerate(super().values()):
            if number:
                self.half_way()
            yield data


class Adder:
    """A rendezvous: it adds up the ranks' numbers step by step. If one leaves, it leaves them all."""

    modules: tuple[str, ...] = ()

    def __init__(self, *modules: str) -> None:
        self.modules = modules
        self.opened = 0

    @contextmanager
    def open(self, ranks: int, host: str) -> Iterator[Mapping[str, Any]]:
        self.opened += 1
        listener = socket.create_server((host, 0))
        links: list[socket.socket] = []
        thread = threading.Thread(target=_serve, args=(listener, links, ranks))
        thread.start()
        try:
            yield {"host": host, "port": listener.getsockname()[1]}
        finally:
            for one in (listener, *links):
                _shut(one)
            thread.join()


def _serve(listener: socket.socket, links: list[socket.socket], ranks: int) -> None:
    try:
        while len(links) < ranks:
            links.append(listener.accept()[0])
        while True:
            total = sum(int.from_bytes(_read(link), "little") for link in links)
            for link in links:
                link.sendall(total.to_bytes(8, "little"))
    except OSError:
        pass  # closed, or a rank has left
    finally:
        for link in links:
            _shut(link)


def _shut(link: socket.socket) -> None:
    with suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
    link.close()


def _read(link: socket.socket) -> bytes:
    data = b""
    while len(data) < 8:
        more = link.recv(8 - len(data))
        if not more:
            raise ConnectionError("the other end has left")
        data += more
    return data


@contextmanager
def _adding(rank: Rank, *, clings: bool) -> Iterator[Callable[[int], int]]:
    if not rank.rendezvous:
        yield lambda own: own
        return

    def add(own: int) -> int:
        try:
            link.sendall(own.to_bytes(8, "little"))
            return int.from_bytes(_read(link), "little")
        except OSError as error:
            while clings:
                time.sleep(1)
            raise Disrupted(f"a peer has left: {error}") from error

    try:
        link = socket.create_connection((rank.rendezvous["host"], rank.rendezvous["port"]), timeout=30)
    except OSError as error:
        raise Disrupted(f"nobody listens: {error}") from error
    link.settimeout(None)
    try:
        yield add
    finally:
        link.close()
