"""One deadline for all that is awaited through it, watched by one timer.

A timer for each request, as ``asyncio.timeout`` sets one, costs more than reading a row. So the end is noticed a little
late: by an eighth of the time allowed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Any, TypeVar

__all__ = ["Deadline"]

_Result = TypeVar("_Result")
_SWEEPS = 8


class Deadline:
    """How long anything may take that is awaited through it; used by one event loop at a time.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._waiting: deque[_Place] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def wait(self, awaited: Awaitable[_Result]) -> _Result:
        """Wait for something, and cancel it when it takes too long.

        Args:
            awaited: What is waited for.

        Raises:
            TimeoutError: It did not end in time.
        """
        task = asyncio.current_task()
        assert task is not None
        loop, waiting = task.get_loop(), self._waiting
        if self._loop is not loop:
            self._watch(loop)
        while waiting and waiting[0].task is None:
            waiting.popleft()
        place = _Place(task, loop.time() + self.seconds)
        waiting.append(place)
        try:
            return await awaited
        except asyncio.CancelledError:
            # Cancelled by somebody else as well, the task has to end.
            if place.expired and task.uncancel() == 0:
                raise TimeoutError from None
            raise
        finally:
            place.task = None

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting.clear()  # what is left is of a loop that has ended
        loop.call_later(self.seconds / _SWEEPS, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            return
        waiting, now = self._waiting, loop.time()
        while waiting:
            first = waiting[0]
            if first.task is not None:
                if now < first.until:
                    break
                first.expired = True
                first.task.cancel()
            waiting.popleft()
        if waiting:
            loop.call_later(self.seconds / _SWEEPS, self._sweep, loop)
        else:
            self._loop = None


class _Place:
    """Who waits, until when."""

    __slots__ = ("expired", "task", "until")

    def __init__(self, task: asyncio.Task[Any], until: float) -> None:
        self.task: asyncio.Task[Any] | None = task
        self.until = until
        self.expired = False
