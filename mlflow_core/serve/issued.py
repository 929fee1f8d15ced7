"""The tokens that ``mlcore tokens create`` made, as a server knows them: their digests in memory, read again all the time.

No request waits for the database unless what is in memory is too old to be believed, or the token is one that nobody has
seen: then it is read again, once for all who wait and a few times a second at most, so that wrong tokens are no way to
keep a database busy. What is older than ``HOLDS_S`` counts for nothing: a token that was revoked is refused after that
time at the latest, and where the database cannot be read nobody gets in by what it once said.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from mlflow_core.config.clock import Clock
from mlflow_core.errors import MetadataError
from mlflow_core.metadata.tokens import TokenDigest
from mlflow_core.serve.threads import Threads
from mlflow_core.telemetry import get_logger

__all__ = ["HOLDS_S", "IssuedTokens"]

HOLDS_S: Final = 10.0
"""Seconds for which what was read of the tokens counts."""

_AGAIN_S: Final = 0.25
_WAITS_S: Final = 2.0
_log = get_logger("serve")


class IssuedTokens:
    """The tokens of a namespace.

    Args:
        read: Reads those that are in force, blocking.
        clock: Says whether one has expired meanwhile.
        close: Gives back what ``read`` reads from.
        holds_s: Seconds for which what was read counts.
        elapsed: Seconds that pass whatever clocks are set to.
    """

    def __init__(
        self,
        read: Callable[[], Sequence[TokenDigest]],
        clock: Clock,
        *,
        close: Callable[[], None] = lambda: None,
        holds_s: float = HOLDS_S,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._clock = clock
        self._close = close
        self._holds_s = holds_s
        self._elapsed = elapsed
        self._known: Mapping[str, TokenDigest] = {}
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._reading: asyncio.Task[None] | None = None
        self._replacing = threading.Lock()
        self._threads = Threads(1, _WAITS_S, "serve-tokens")

    @property
    def counts(self) -> bool:
        """Whether what is in memory is young enough to be believed."""
        return self._read_at is not None and self._elapsed() - self._read_at <= self._holds_s

    @property
    def none_made(self) -> bool:
        """Whether there is none in force."""
        return not self._known

    def find(self, digest: str) -> TokenDigest | None:
        """Return what is known of a token; None where it is unknown, revoked or expired.

        Args:
            digest: As ``digest_of_token`` says.
        """
        found = self._known.get(digest)
        if found is None or (found.expires_us is not None and self._clock.now_us() >= found.expires_us):
            return None
        return found

    def refresh(self) -> None:
        """Read the tokens again, blocking.

        Raises:
            MetadataError: The database cannot be read; what is in memory goes on to count for its time.
        """
        began = self._elapsed()
        known = {one.digest: one for one in self._read()}
        with self._replacing:
            # Of two readings at once the one that began first may end last, and know less.
            if self._read_at is None or began >= self._read_at:
                self._known, self._read_at = known, began

    async def catch_up(self, digest: str) -> None:
        """Read the tokens again if what is in memory does not say enough of one; gives up waiting after two seconds.

        Args:
            digest: The token that is asked for.
        """
        if digest in self._known and self.counts:
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_aside())
        await asyncio.wait({self._reading}, timeout=_WAITS_S)

    def close(self) -> None:
        """End the thread, and give back what tokens are read from."""
        self._threads.close(0.0)
        self._close()

    async def _read_aside(self) -> None:
        last = max((at for at in (self._tried_at, self._read_at) if at is not None), default=None)
        if last is not None:
            await asyncio.sleep(max(0.0, last + _AGAIN_S - self._elapsed()))
        self._tried_at = self._elapsed()
        try:
            await self._threads.run(self.refresh)
        except (MetadataError, TimeoutError) as error:
            _log.warning("tokens cannot be read", extra={"why": str(error) or "no answer in time"})
