"""When a call is tried again, and how long after: exponential waits with full jitter.

Most calls only read, and pushes are idempotent (``sent.push_call`` says why); deletions are not, and are made once.
Only what may pass by itself is tried again: no connection, no answer in time, 429, 502, 503, 504. A server's
``Retry-After`` is obeyed up to the longest wait.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

__all__ = ["Retry"]

_PASSING = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Retry:
    """How often and how soon a call is tried again.

    Args:
        attempts: Tries in all; 1 never tries again.
        first_wait_s: Longest wait before the second try; it doubles from try to try.
        longest_wait_s: No wait is longer.
        random: Where the jitter comes from.

    Raises:
        ValueError: There is no try, or a wait is negative.
    """

    attempts: int = 3
    first_wait_s: float = 0.05
    longest_wait_s: float = 2.0
    random: random.Random = field(default_factory=random.Random, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_wait_s < 0 or self.longest_wait_s < 0:
            raise ValueError(
                f"attempts is {self.attempts} and must be at least 1; waits must not be negative"
            )

    def is_passing(self, status: int) -> bool:
        """Say whether an HTTP status may be gone at the next try."""
        return status in _PASSING

    def wait_s(self, attempt: int, retry_after: str | None = None) -> float:
        """Return how long to wait after a try that failed.

        Args:
            attempt: Which try it was, from 1.
            retry_after: The server's ``Retry-After`` in seconds, or None. Dates are not understood and ignored.

        Returns:
            Seconds: at least what the server asks for, spread so that callers do not come back together.
        """
        ceiling = min(self.longest_wait_s, self.first_wait_s * 2 ** (attempt - 1))
        asked = float(retry_after) if retry_after is not None and retry_after.isdecimal() else 0.0
        return min(self.longest_wait_s, asked + self.random.uniform(0.0, ceiling))
