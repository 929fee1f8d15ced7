"""Asking, judging and pushing while things break: threads that keep going, and count what they see by kind."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from benchmarks.online.answers import cells_of_compact, cells_of_feast, differences
from benchmarks.online.changing import PUSHES, SERVICE, Ledger
from benchmarks.online.steady import CUT, REFUSED, SILENT
from benchmarks.online.world import CASES, KEY, World

__all__ = ["Seen", "Watch", "kind_of_error", "post"]

N_ROWS = 10
FIVE = CASES[2]  # 10 x 50


@dataclass
class Seen:
    """What was seen so far; threads add to it under its lock."""

    answers: int = 0
    wrong: int = 0
    pushed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    when: dict[str, list[float]] = field(default_factory=dict)
    features: dict[int, float] = field(default_factory=dict)  # when an answer first had so many
    first_wrong: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def failed(self, what: str, kind: str) -> None:
        with self.lock:
            self.failures[f"{what}: {kind}"] += 1
            self.when.setdefault(kind, []).append(time.monotonic())


class Watch:
    """Readers that judge every answer, and a writer whose acknowledged rows must be seen from then on.

    Args:
        port: The server's.
        world: The truth about the views that do not change.
        ledger: The truth about the one that does.
        token: What the write endpoint asks for; None where it is open.
    """

    def __init__(self, port: int, world: World, ledger: Ledger, token: str | None) -> None:
        self.port, self.world, self.ledger, self.token = port, world, ledger, token
        self.seen = Seen()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, *, readers: int = 4, reads_a_second: float = 200, pushes_a_second: float = 20) -> None:
        """Start the threads."""
        for number in range(readers):
            self._thread(self._read, readers / reads_a_second, number)
        self._thread(self._push, 1 / pushes_a_second, readers)

    def stop(self) -> None:
        """End the threads and wait for them."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def judge_all(self, connection: http.client.HTTPConnection) -> int:
        """Read every key once; return the rows that lack an acknowledged version or are no version at all."""
        wrong = 0
        for start in range(0, self.world.n_entities, 100):
            keys = list(range(start, min(start + 100, self.world.n_entities)))
            floor = self.ledger.floor(keys)
            wrong += self.ledger.wrong(keys, floor, self._asked(connection, SERVICE, keys, feasts=True))
        return wrong

    def _thread(
        self,
        work: Callable[[http.client.HTTPConnection, np.random.Generator], None],
        every: float,
        seed: int,
    ) -> None:
        thread = threading.Thread(target=self._loop, args=(work, every, seed), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _loop(
        self,
        work: Callable[[http.client.HTTPConnection, np.random.Generator], None],
        every: float,
        seed: int,
    ) -> None:
        rng = np.random.default_rng(seed)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        due = time.monotonic()
        while not self._stop.is_set():
            try:
                work(connection, rng)
            except _Unanswered as error:
                self.seen.failed(work.__name__.strip("_"), error.kind)
                connection.close()
            due = max(due + every, time.monotonic() - 1.0)
            self._stop.wait(max(0.0, due - time.monotonic()))
        connection.close()

    def _read(self, connection: http.client.HTTPConnection, rng: np.random.Generator) -> None:
        keys = [int(key) for key in rng.integers(0, self.world.n_entities, N_ROWS)]
        feasts, changes = bool(rng.random() < 0.5), 0
        if rng.random() < 0.3:
            cells = self._asked(connection, FIVE.service, keys, feasts=feasts)
            truth = self.world.truth(FIVE, keys)
            if not feasts:
                del truth[KEY]
            wrong = sum(differences(cells, truth, times=feasts).values())
        else:
            floor = self.ledger.floor(keys)
            cells = self._asked(connection, SERVICE, keys, feasts=feasts)
            changes = len(set(cells) - {KEY})
            wrong = self.ledger.wrong(keys, floor, cells)
        with self.seen.lock:
            self.seen.answers += 1
            self.seen.wrong += wrong
            if changes:
                self.seen.features.setdefault(changes, time.monotonic())
            if wrong and not self.seen.first_wrong:
                self.seen.first_wrong = f"{keys}: {cells}"[:2_000]

    def _asked(
        self, connection: http.client.HTTPConnection, service: str, keys: Sequence[int], *, feasts: bool
    ) -> dict[str, Any]:
        if feasts:
            body = {"feature_service": service, "entities": {KEY: list(keys)}}
            return cells_of_feast(post(connection, "/get-online-features", body))
        rows = [{KEY: key} for key in keys]
        return cells_of_compact(post(connection, "/v1/features", {"service": service, "entities": rows}))

    def _push(self, connection: http.client.HTTPConnection, rng: np.random.Generator) -> None:
        keys = [int(key) for key in rng.choice(self.world.n_entities, N_ROWS, replace=False)]
        rows = self.ledger.next(keys)
        at = datetime.now(UTC).isoformat()
        told = [{**row, "event_timestamp": at} for row in rows]
        post(connection, f"/v1/push/{PUSHES}", {"rows": told}, token=self.token)
        self.ledger.acknowledge(rows)
        with self.seen.lock:
            self.seen.pushed += 1


class _Unanswered(Exception):
    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def post(connection: http.client.HTTPConnection, path: str, data: Any, *, token: str | None = None) -> bytes:
    """Post JSON.

    Raises:
        _Unanswered: The answer's status is no 200, or there was none.
    """
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request("POST", path, json.dumps(data).encode(), headers)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise _Unanswered(kind_of_error(error)) from error
    if answer.status != 200:
        raise _Unanswered(f"status {answer.status}")
    return body


def kind_of_error(error: Exception) -> str:
    """Name what happened to a connection."""
    if isinstance(error, TimeoutError):
        return SILENT
    return REFUSED if isinstance(error, ConnectionRefusedError) else CUT
