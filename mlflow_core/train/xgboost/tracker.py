"""XGBoost's rendezvous: its tracker, which listens in the caller's process while an attempt runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mlflow_core.telemetry.logs import get_logger

__all__ = ["Tracker"]

_log = get_logger(__name__)


class Tracker:
    """How the ranks of XGBoost find each other.

    Its timeout stays 0: with one, a late rank takes the whole process down. The gang imports the modules first, so
    that no rank is late because of them.
    """

    modules: tuple[str, ...] = ("mlflow_core.train.xgboost.rank",)

    @contextmanager
    def open(self, ranks: int, host: str) -> Iterator[Mapping[str, Any]]:
        """Listen for the ranks of an attempt.

        Args:
            ranks: How many will come.
            host: This machine's address as the workers see it.

        Yields:
            The arguments of XGBoost's ``CommunicatorContext``, without the rank's own ``dmlc_task_id``.
        """
        from xgboost.core import XGBoostError
        from xgboost.tracker import RabitTracker

        tracker = RabitTracker(n_workers=ranks, host_ip=host, sortby="task", timeout=0)
        tracker.start()
        try:
            yield dict(tracker.worker_args())
        finally:
            try:
                tracker.free()
            except XGBoostError as error:
                # Of a broken gang it reports once more what broke it, which the supervisor already knows.
                _log.debug("the tracker of a broken gang ended: %s", error)
