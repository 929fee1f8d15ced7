"""The bodies of requests: read up to a limit each, in a time, and up to a limit together while they are still on their way.

A body that is there as its request is looked at is not counted: its request is worked on next, and counted there. Of
one that comes slowly nobody knows when it will be whole, so that a few callers could make the process hold any number of
bytes before a single request is worked on.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from time import monotonic
from typing import Any

from mlflow_core.serve.deadline import Deadline
from mlflow_core.serve.messages import Receive, Scope, header_of
from mlflow_core.serve.refusal import Refusal

__all__ = ["Bodies"]


class Bodies:
    """Reads the bodies of one application; used by one event loop at a time.

    Args:
        longest: Most bytes of one body.
        together: Most bytes of all bodies of which only a part is there. One alone is read in any case.
        seconds: How long one may take, from its first part to its last.

    Attributes:
        reading: Bytes of the bodies of which only a part is there: what their callers say they will send, else what
            has come.
    """

    def __init__(self, longest: int, together: int, seconds: float) -> None:
        self.reading = 0
        self._longest = longest
        self._together = together
        self._seconds = seconds
        self._first = Deadline(seconds)

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """Read a request's body.

        Args:
            scope: The request's head.
            receive: Gives the next part.

        Raises:
            Refusal: It is longer (413; what is beyond is not read), or too much is on its way already (503).
            TimeoutError: It did not arrive in time.
            ConnectionResetError: The caller has gone.
        """
        length = header_of(scope, b"content-length")
        if length.isdigit() and int(length) > self._longest:
            raise self._too_long(int(length))
        until = monotonic() + self._seconds
        message = await self._first.wait(receive())
        if message["type"] == "http.request" and not message.get("more_body", False):
            whole: bytes = message.get("body", b"")
            if len(whole) > self._longest:
                raise self._too_long(len(whole))
            return whole
        async with asyncio.timeout(max(0.0, until - monotonic())):
            return await self._rest(message, receive, int(length) if length.isdigit() else 0)

    async def _rest(self, message: MutableMapping[str, Any], receive: Receive, promised: int) -> bytes:
        parts: list[bytes] = []
        size = counted = 0
        try:
            while True:
                if message["type"] == "http.disconnect":
                    raise ConnectionResetError("the caller has gone")
                part = message.get("body", b"")
                size += len(part)
                if size > self._longest:
                    raise self._too_long(size)
                others, counts = self.reading - counted, max(promised, size)
                if others and others + counts > self._together:
                    why = "the bodies of too many requests are on their way at once"
                    raise Refusal(why, status=503, hint="Try again.", retry_after_s=1)
                self.reading, counted = others + counts, counts
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
                message = await receive()
        finally:
            self.reading -= counted

    def _too_long(self, size: int) -> Refusal:
        return Refusal(
            f"the body has {size} bytes or more",
            status=413,
            expected=f"at most {self._longest}",
            hint="Send it in parts.",
        )
