"""One deadline for all that is awaited through it, watched by one timer.

A timer for each request, as ``asyncio.timeout`` sets one, costs more than reading a row. So the end is noticed a little
late: by an eighth of the time allowed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["Deadline", "Place"]

_Result = TypeVar("_Result")
_SWEEPS = 8


class Deadline:
    """How long anything may take that is awaited through it; used by one event loop at a time.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._waiting: deque[Place] = deque()
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
        place = self.taken(task.get_loop(), task.cancel)
        try:
            return await awaited
        except asyncio.CancelledError:
            # Cancelled by somebody else as well, the task has to end.
            if place.expired and task.uncancel() == 0:
                raise TimeoutError from None
            raise
        finally:
            place.late = None

    def taken(self, loop: asyncio.AbstractEventLoop, late: Callable[[], object]) -> Place:
        """Take a place among those that wait; who has what it waited for leaves it by ``place.late = None``.

        Args:
            loop: The running event loop.
            late: Is called once if it is still there in the end; it must not raise.
        """
        waiting = self._waiting
        if self._loop is not loop:
            self._watch(loop)
        while waiting and waiting[0].late is None:
            waiting.popleft()
        place = Place(late, loop.time() + self.seconds)
        waiting.append(place)
        return place

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting.clear()  # what is left is of a loop that has ended
        loop.call_later(self.seconds / _SWEEPS, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            return
        waiting, now = self._waiting, loop.time()
        try:
            while waiting:
                first = waiting[0]
                late = first.late
                if late is not None and now < first.until:
                    break
                waiting.popleft()
                if late is not None:
                    first.expired = True
                    late()
        finally:  # also where one of them has failed: the others wait on
            if waiting:
                loop.call_later(self.seconds / _SWEEPS, self._sweep, loop)
            else:
                self._loop = None


class Place:
    """Until when somebody waits, and what is done then.

    Attributes:
        late: What is done; None once there is nothing to wait for any more.
        expired: Whether it has been done.
    """

    __slots__ = ("expired", "late", "until")

    def __init__(self, late: Callable[[], object], until: float) -> None:
        self.late: Callable[[], object] | None = late
        self.until = until
        self.expired = False
