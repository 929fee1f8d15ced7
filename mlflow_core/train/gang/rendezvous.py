"""How ranks find each other: a protocol. XGBoost's tracker and torch's store are its implementations."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

__all__ = ["Rendezvous"]


class Rendezvous(Protocol):
    """Where the ranks of an attempt meet; it listens in the caller's process."""

    @property
    def modules(self) -> tuple[str, ...]:
        """What is imported on every worker before an attempt starts: no rank then waits for another's imports."""
        ...

    def open(self, ranks: int, host: str) -> AbstractContextManager[Mapping[str, Any]]:
        """Listen for an attempt's ranks; called anew for each attempt, and never for a rank alone.

        Args:
            ranks: How many will come, at least 2.
            host: This machine's address as the workers see it.

        Returns:
            What the ranks are told as ``Rank.rendezvous``, while it is open. It is closed also under ranks that still
            run, when the attempt is given up, and must not wait for them.
        """
        ...
