"""Blocking work beside the event loop: a few threads, a deadline, and a count of what nobody waits for any more.

The threads are daemons, which those of ``concurrent.futures`` are not: a read that hangs must not keep the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any, TypeVar

__all__ = ["Threads"]

_Result = TypeVar("_Result")
_Job = tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]


class Threads:
    """Runs blocking work for requests.

    Args:
        number: How many pieces of work run at once; others wait.
        deadline_s: Longest time that somebody waits for one.
        name: What the threads are called.
    """

    def __init__(self, number: int, deadline_s: float, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = [
            Thread(target=_work, args=(self._jobs,), name=f"{name}_{i}", daemon=True) for i in range(number)
        ]
        self._closed = False
        for thread in self._threads:
            thread.start()
        self.deadline_s = deadline_s
        self.left_behind = 0
        """Work that still runs or waits though its request has been answered otherwise; it takes room all the same."""

    async def run(self, work: Callable[..., _Result], *args: Any) -> _Result:
        """Run work in a thread.

        Raises:
            TimeoutError: It did not end by the deadline; if it had not begun either, it never will.
            RuntimeError: The threads have been closed.
        """
        if self._closed:
            raise RuntimeError("the threads have been closed")
        job: Future[_Result] = Future()
        self._jobs.put((job, work, args))
        future = asyncio.wrap_future(job)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self.deadline_s)
        except (TimeoutError, asyncio.CancelledError):
            # What has not begun is not begun for nobody: it would keep those waiting who still wait.
            if not job.cancel() and not future.done():
                self.left_behind += 1
                future.add_done_callback(self._came_back)
            raise

    def close(self, wait_s: float = 2.0) -> bool:
        """End the threads, and wait for what runs.

        Args:
            wait_s: How long; what runs then is left to itself.

        Returns:
            Whether all of it has ended.
        """
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        until = monotonic() + wait_s
        for thread in self._threads:
            thread.join(max(0.0, until - monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _came_back(self, future: asyncio.Future[Any]) -> None:
        self.left_behind -= 1
        if not future.cancelled():
            future.exception()  # asked for, so that asyncio does not complain where nobody waits any more


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        _do(*job)
        del job  # else what was done last stays in memory until the next


def _do(future: Future[Any], work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work(*args)
    except BaseException as error:  # raised where it is waited for
        future.set_exception(error)
    else:
        future.set_result(result)
