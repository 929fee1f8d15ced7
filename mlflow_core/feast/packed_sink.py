"""What workers write materialised rows with: packed, into our store. Nothing here knows Feast, which is slow to import.

A sink travels to a worker and opens its store there. It writes again what the store did not take because it was away
for a moment, which is harmless since the greater version wins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa

from mlflow_core.engine.sink import Sunk
from mlflow_core.errors import StoreError
from mlflow_core.online.backend import OnlineBackend, OnlineTable
from mlflow_core.online.rows import Row, bytes_of
from mlflow_core.online.write import packed_rows
from mlflow_core.spec import FeatureView
from mlflow_core.telemetry import get_logger

__all__ = ["PackedSink", "patiently"]

_FIRST_WAIT_S = 0.2
_ROWS_AT_ONCE = 5_000  # enough for a store to be busy with; few enough that packing them takes little memory
_ATTEMPTS = 6  # with waits that double in between: some 6 s in all, beside the store's own timeouts
_log = get_logger("feast")
_Written = TypeVar("_Written")


@dataclass(slots=True)
class PackedSink:
    """Packs rows and writes them to a backend of ours.

    Args:
        backend: The online store; a worker's copy opens its own connections and closes them.
        view: The view as it is stored.
        boundary: What its rows are computed for, microseconds since epoch, UTC.
        schema: The types that readers expect.
        sequence: Orders runs of one boundary; see ``mlflow_core.online.write.packed_rows``.
    """

    backend: OnlineBackend
    view: FeatureView
    boundary: int
    schema: pa.Schema
    sequence: int = 0
    _own: bool = field(default=False, repr=False)
    _writer: ThreadPoolExecutor | None = field(default=None, repr=False)

    def __reduce__(self) -> tuple[object, ...]:
        return PackedSink, (self.backend, self.view, self.boundary, self.schema, self.sequence, True)

    def write(self, table: pa.Table) -> Sunk:
        """Write rows; see ``mlflow_core.engine.sink.Sink``. Some are packed while the store takes those before."""
        if table.num_rows <= _ROWS_AT_ONCE:
            return self._taken(*self._packed(table))
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="mlcore-write")
        sunk, before = Sunk(), None
        try:
            for first in range(0, table.num_rows, _ROWS_AT_ONCE):
                packed = self._packed(table.slice(first, _ROWS_AT_ONCE))
                if before is not None:
                    sunk += before.result()
                before = self._writer.submit(self._taken, *packed)
        finally:
            # Also where packing fails: nothing is written any more when this returns.
            if before is not None:
                sunk += before.result()
        return sunk

    def close(self) -> None:
        """End the writing thread, and close a worker's own connections."""
        if self._writer is not None:
            self._writer.shutdown()
            self._writer = None
        if self._own:
            self.backend.close()

    def _packed(self, table: pa.Table) -> tuple[OnlineTable, Sequence[Row], int]:
        place, rows = packed_rows(self.view, table, self.boundary, self.schema, sequence=self.sequence)
        return place, rows, table.num_rows

    def _taken(self, place: OnlineTable, rows: Sequence[Row], given: int) -> Sunk:
        changed = patiently(self.view.title, lambda: self.backend.write(place, rows))
        return Sunk(given, changed, given - len(rows), bytes_of(rows))


def patiently(title: str, write: Callable[[], _Written]) -> _Written:
    """Write, and write again what was not taken because the store was away; what it says no to stays a no.

    Args:
        title: Whose rows, for the log.
        write: Does it; harmless when it is done twice.

    Raises:
        StoreError: The store stayed away, or refuses.
    """
    wait = _FIRST_WAIT_S
    for attempt in range(1, _ATTEMPTS):
        try:
            return write()
        except StoreError as error:
            if error.__cause__ is None:  # a rule of ours, not the store's plight
                raise
            _log.warning("%s: attempt %d failed, next in %.1f s: %s", title, attempt, wait, error)
        time.sleep(wait)
        wait *= 2
    return write()
