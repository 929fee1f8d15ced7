"""What the server counts, in Prometheus' text format; each worker process answers for itself.

One registry an application, never the library's global one, so that two applications of one process do not mix.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The counters of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "mlcore_requests",
            "Requests by route and HTTP status.",
            ("route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "mlcore_request_seconds",
            "Time from the first byte of a request to its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._values = Counter(
            "mlcore_feature_values",
            "Feature values by service and status.",
            ("service", "status"),
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "mlcore_requests_in_flight", "Requests being worked on.", registry=self.registry
        )
        self.problems = Gauge(
            "mlcore_registry_problems",
            "Services whose version in the registry is not served, and 1 more if it cannot be read.",
            registry=self.registry,
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request.

        Args:
            route: The route's pattern, never a name that a caller sent.
            status: HTTP status.
            seconds: How long it took.
        """
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def values(self, service: str, status: str, count: int) -> None:
        """Count feature values of an answer.

        Args:
            service: A service that exists.
            status: PRESENT, NULL_VALUE, NOT_FOUND or OUTSIDE_MAX_AGE.
            count: How many.
        """
        self._values.labels(service, status).inc(count)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)
