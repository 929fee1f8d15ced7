"""Blocking work beside the event loop: a few threads, a deadline, and a count of what nobody waits for any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["Threads"]

_Result = TypeVar("_Result")


class Threads:
    """Runs blocking work for requests.

    Args:
        number: How many pieces of work run at once; others wait.
        deadline_s: Longest time that somebody waits for one.
        name: What the threads are called.
    """

    def __init__(self, number: int, deadline_s: float, name: str) -> None:
        self._pool = ThreadPoolExecutor(number, thread_name_prefix=name)
        self.deadline_s = deadline_s
        self.left_behind = 0
        """Work that still runs or waits though its request has been answered otherwise; it takes room all the same."""

    async def run(self, work: Callable[..., _Result], *args: Any) -> _Result:
        """Run work in a thread.

        Raises:
            TimeoutError: It did not end by the deadline; if it had not begun either, it never will.
        """
        job = self._pool.submit(work, *args)
        future = asyncio.wrap_future(job)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self.deadline_s)
        except (TimeoutError, asyncio.CancelledError):
            # What has not begun is not begun for nobody: it would keep those waiting who still wait.
            if not job.cancel() and not future.done():
                self.left_behind += 1
                future.add_done_callback(self._came_back)
            raise

    def close(self) -> None:
        """Wait for what runs, and end the threads."""
        self._pool.shutdown(wait=True)

    def _came_back(self, future: asyncio.Future[Any]) -> None:
        self.left_behind -= 1
        if not future.cancelled():
            future.exception()  # asked for, so that asyncio does not complain where nobody waits any more
