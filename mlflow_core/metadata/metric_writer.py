"""Metrics that are told often, gathered and written in batches: a transaction a second, not one a round.

What waits is lost if the process is killed, and nothing else loses it: a batch that cannot be written stays, is tried again
with what is told next, and whoever tells or flushes then hears why it could not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

from mlflow_core.errors import MetadataError
from mlflow_core.metadata.records import Metric
from mlflow_core.telemetry.logs import get_logger

__all__ = ["MetricTuple", "MetricWriter"]

MetricTuple = tuple[str, str, int, float, float | None, float | None, int]
"""Run, name, step, value, the ends of its interval, when it was told in microseconds since the epoch, UTC."""

_Told = Mapping[str, float] | Iterable[Metric]

_log = get_logger(__name__)


class MetricWriter:
    """Writes the metrics of one run, each at most ``delay_s`` after it was told. See ``MetadataStore.metric_writer``.

    Threads may share one.

    Args:
        rows_of: Makes rows of what is told, and refuses what is no metric.
        write: Writes rows in one transaction.
        delay_s: How long a row waits at most, in seconds.
        at_most: How many rows wait at most.
    """

    def __init__(
        self,
        rows_of: Callable[[_Told, int | None], list[MetricTuple]],
        write: Callable[[list[MetricTuple]], None],
        *,
        delay_s: float,
        at_most: int,
    ) -> None:
        self._rows_of, self._write = rows_of, write
        self._delay_s, self._at_most = delay_s, at_most
        self._waiting: list[MetricTuple] = []
        self._timer: threading.Timer | None = None
        self._failed = False
        self._guard = threading.Lock()  # of all of these
        self._turn = threading.Lock()  # one batch at a time, in the order in which they were told

    def write(self, metrics: _Told, *, step: int | None = None) -> None:
        """Tell metrics, as to ``MetadataStore.log_metrics``.

        Raises:
            MetadataError: A value is no number, or a step no whole one: none of them is taken. Or what waits cannot be
                written, and goes on waiting.
        """
        rows = self._rows_of(metrics, step)
        with self._guard:
            self._waiting += rows
            now = self._failed or len(self._waiting) >= self._at_most
            if not now and self._timer is None:
                self._timer = threading.Timer(self._delay_s, self._by_itself)
                self._timer.daemon = True  # who tells metrics also flushes them
                self._timer.start()
        if now:
            self.flush()

    def flush(self) -> None:
        """Write all that waits; what was told before has been written when this returns.

        Raises:
            MetadataError: It cannot be written, and goes on waiting.
        """
        with self._turn:
            rows = self._taken_up()
            if not rows:
                return
            self._write(rows)
            # Only now: whatever interrupts this, at any point of it, leaves them waiting.
            with self._guard:
                del self._waiting[: len(rows)]
                self._failed = False

    def drop(self) -> None:
        """Forget what waits, as where another driver has the run; a batch that is being written ends before."""
        with self._turn:
            self._taken_up()
            with self._guard:
                self._waiting.clear()

    def _taken_up(self) -> list[MetricTuple]:
        """What waits, which no timer is to write any more."""
        with self._guard:
            rows = list(self._waiting)
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        return rows

    def _by_itself(self) -> None:
        try:
            self.flush()
        except MetadataError as error:
            self._failed = True
            _log.warning("metrics wait to be written: %s", error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        except MetadataError as unwritten:
            if error is None:
                raise
            # What went wrong first is what the caller has to hear.
            _log.warning("metrics were not written: %s", unwritten)
