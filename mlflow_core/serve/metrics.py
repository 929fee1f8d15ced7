"""What the server counts, in Prometheus' text format.

A request adds to plain numbers, so that counting costs next to nothing; they become Prometheus' metrics when they are
asked for. Several worker processes on one port share a folder: each keeps its numbers there in a file of its own, and
whichever is asked adds them all up. A worker that has died leaves its numbers, so that no counter ever falls.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_BOUNDS = [*map(str, _SECONDS), "+Inf"]
_SEPARATOR = "\x1f"  # between labels in a file's keys


class _Timings:
    """A histogram: a count for each bucket, and the sum of what was observed."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(_SECONDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(_SECONDS, seconds)] += 1
        self.total += seconds


class Metrics:
    """The numbers of one application; used by one thread, the event loop's.

    Args:
        shared: A folder for the numbers of all workers of one port; None where there is one process.
    """

    def __init__(self, shared: Path | None = None) -> None:
        self.in_flight = 0
        self.problems = 0
        self.freshness: Mapping[str, int] = {}
        """The time up to which each view is materialised, microseconds since epoch, UTC."""
        self.now_us: int = 0
        """When that was looked up."""
        self._requests: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._values: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._whole: defaultdict[tuple[tuple[str, int], ...], int] = defaultdict(int)
        self._seconds: defaultdict[str, _Timings] = defaultdict(_Timings)
        self._store = _Timings()
        self._store_failures = 0
        self._shared = shared
        # A process may get the number of one that has died, whose numbers stay.
        self._file = f"{os.getpid()}-{time.time_ns()}.json"
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request.

        Args:
            route: The route's pattern, never a name that a caller sent.
            status: HTTP status.
            seconds: How long it took.
        """
        self._requests[route, status] += 1
        self._seconds[route].observe(seconds)

    def values(self, view: str, status: str, count: int) -> None:
        """Count feature values of an answer.

        Args:
            view: The view they are of; an on-demand one by its own name.
            status: PRESENT, NULL_VALUE, NOT_FOUND or OUTSIDE_MAX_AGE.
            count: How many.
        """
        self._values[view, status] += count

    def whole(self, counted: tuple[tuple[str, int], ...], n_rows: int) -> None:
        """Count the values of an answer of which every value is there.

        Args:
            counted: Views, and how many of their features the answer has.
            n_rows: How many rows it has.
        """
        self._whole[counted] += n_rows

    def store_read(self, seconds: float) -> None:
        """Count a read of the online store that was answered."""
        self._store.observe(seconds)

    def store_failed(self) -> None:
        """Count a read of the online store that was not."""
        self._store_failures += 1

    def text(self) -> bytes:
        """Return everything in Prometheus' text format, of all workers."""
        return generate_latest(self._registry)

    def share(self) -> None:
        """Write this process' numbers where the other workers find them."""
        if self._shared is None:
            return
        draft = self._shared / f".{self._file}"
        draft.write_bytes(orjson.dumps(self._numbers()))
        draft.replace(self._shared / self._file)

    def collect(self) -> Iterator[Metric]:
        """Give the numbers to Prometheus' library, which calls this."""
        self.share()
        numbers = _summed(self._everyones())
        requests = CounterMetricFamily(
            "mlcore_requests", "Requests by route and HTTP status.", labels=("route", "status")
        )
        for labels, count in sorted(numbers["requests"].items()):
            requests.add_metric(labels.split(_SEPARATOR), count)
        yield requests
        seconds = HistogramMetricFamily(
            "mlcore_request_seconds",
            "Time from the first byte of a request to its answer.",
            labels=("route",),
        )
        for route, timings in sorted(numbers["seconds"].items()):
            seconds.add_metric((route,), *_buckets(timings))
        yield seconds
        store = HistogramMetricFamily("mlcore_store_read_seconds", "Time of one read of the online store.")
        store.add_metric((), *_buckets(numbers["store"]["read"]))
        yield store
        yield CounterMetricFamily(
            "mlcore_store_failures",
            "Reads of the online store that failed or took too long.",
            value=numbers["failures"]["read"],
        )
        values = CounterMetricFamily(
            "mlcore_feature_values", "Feature values by view and status.", labels=("view", "status")
        )
        for labels, count in sorted(numbers["values"].items()):
            values.add_metric(labels.split(_SEPARATOR), count)
        yield values
        yield GaugeMetricFamily(
            "mlcore_requests_in_flight", "Requests being worked on.", value=numbers["gauges"]["in_flight"]
        )
        yield GaugeMetricFamily(
            "mlcore_registry_problems",
            "Services whose version in the registry is not served, and 1 more if it cannot be read.",
            value=self.problems,
        )
        age = GaugeMetricFamily(
            "mlcore_view_age_seconds", "Time since the boundary that a view has reached.", labels=("view",)
        )
        for view, reached in sorted(self.freshness.items()):
            age.add_metric((view,), (self.now_us - reached) / 1e6)
        yield age

    def _numbers(self) -> dict[str, dict[str, Any]]:
        for counted, n_rows in self._whole.items():
            for view, features in counted:
                self._values[view, "PRESENT"] += features * n_rows
        self._whole.clear()
        return {
            "requests": {
                _SEPARATOR.join((route, str(status))): n for (route, status), n in self._requests.items()
            },
            "values": {_SEPARATOR.join(labels): n for labels, n in self._values.items()},
            "seconds": {route: [*one.counts, one.total] for route, one in self._seconds.items()},
            "store": {"read": [*self._store.counts, self._store.total]},
            "failures": {"read": self._store_failures},
            "gauges": {"in_flight": self.in_flight},
        }

    def _everyones(self) -> list[dict[str, dict[str, Any]]]:
        if self._shared is None:
            return [self._numbers()]
        found = []
        files: dict[tuple[int, int], Path] = {}
        for file in self._shared.glob("*-*.json"):
            process, _, started = file.stem.partition("-")
            files[int(process), int(started)] = file
        # Of the files of one process number the last may be of one that runs.
        latest = dict(sorted(files))
        for (number, when), file in sorted(files.items()):
            numbers = orjson.loads(file.read_bytes())
            if when != latest[number] or not _runs(number):
                numbers["gauges"] = {}  # nothing is in flight in a process that has ended
            found.append(numbers)
        return found


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _summed(many: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    total: dict[str, dict[str, Any]] = {}
    for numbers in many:
        for kind, by_labels in numbers.items():
            into = total.setdefault(kind, {})
            for labels, value in by_labels.items():
                before = into.get(labels)
                if before is None:
                    into[labels] = value
                elif isinstance(value, list):
                    into[labels] = [a + b for a, b in zip(before, value, strict=True)]
                else:
                    into[labels] = before + value
    return total


def _buckets(timings: list[float]) -> tuple[list[tuple[str, float]], float]:
    *counts, total = timings
    reached, buckets = 0.0, []
    for bound, count in zip(_BOUNDS, counts, strict=True):
        reached += count
        buckets.append((bound, reached))
    return buckets, total
