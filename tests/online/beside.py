"""What happens beside a test: work in another thread, and waiting until PostgreSQL lets somebody wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg


def in_thread(work: Callable[..., Any], *arguments: object) -> tuple[threading.Thread, list[Any]]:
    """Start work in a thread; its list has the result, or the error, when the thread has ended."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work(*arguments))
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def until_waiting(connection: psycopg.Connection, count: int = 1) -> None:
    """Return when so many of the server's connections wait for a lock."""
    for _ in range(3_000):
        waiting = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        if waiting.fetchone() == (count,):
            return
        time.sleep(0.01)
    raise AssertionError(f"there are not {count} that wait for a lock")
