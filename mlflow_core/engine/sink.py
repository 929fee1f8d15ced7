"""Where materialised rows go: a small interface that stores implement, and that the engine knows nothing more of.

A sink travels to the workers and is given tables there, so rows never pass through the process that asked. It may be
given the same rows twice, by a worker that takes over from one that died, and by the next run after one that was
killed: writing them again must be harmless.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

__all__ = ["ROWS_A_WRITE", "Sink", "Sunk"]

ROWS_A_WRITE = 50_000
"""How many rows a sink is given at once at most, so that its memory is bounded."""


@dataclass(frozen=True, slots=True)
class Sunk:
    """What became of rows; two of them add up.

    Attributes:
        rows: Rows given.
        changed: Those that the store did not have before as they are.
        dropped_keys: Those left out for a null in their key.
        bytes: What was sent to the store, keys included.
    """

    rows: int = 0
    changed: int = 0
    dropped_keys: int = 0
    bytes: int = 0

    def __add__(self, other: Sunk) -> Sunk:
        return Sunk(
            self.rows + other.rows,
            self.changed + other.changed,
            self.dropped_keys + other.dropped_keys,
            self.bytes + other.bytes,
        )


class Sink(Protocol):
    """Takes a view's rows; picklable, so that workers have one of their own."""

    def write(self, table: pa.Table) -> Sunk:
        """Write some of a view's rows; all of them are there when it returns.

        Args:
            table: Key columns, features, ``__event_time`` and ``__created``; at most ``ROWS_A_WRITE`` rows.

        Raises:
            StoreError: The rows cannot be written; some of them may be there.
        """
        ...

    def close(self) -> None:
        """Release what was opened for writing; called where the rows were written, after the last of them."""
        ...
