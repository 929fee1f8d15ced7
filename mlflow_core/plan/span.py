"""Which event times can matter to entity rows: arithmetic on windows, clocks and TTLs, without any data.

An event outside the span changes no feature of any of the rows, so files and row groups outside it need not be
read. The span is of event times only: a bound on when events became known would prune nothing more, because an
event is never known before it happens. What each window and clock means is written in ``docs/concepts``.
"""

from __future__ import annotations

from collections.abc import Iterable

from mlflow_core.errors import PlanError
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.spec import WindowColumn

__all__ = ["Span", "joint_span", "needed_span"]

Span = tuple[int | None, int | None]
"""First and last event time that can matter, microseconds since epoch, UTC; None is without bound."""


def needed_span(read: ViewRead, first_us: int, last_us: int) -> Span:
    """Return the event times that can matter to entity rows of a range of times.

    Args:
        read: The view, the features wanted and the clock.
        first_us: The earliest entity row's time, microseconds since epoch, UTC.
        last_us: The latest one's.

    Returns:
        The closed interval of event times. It has no beginning where a latest value without TTL is wanted, and
        neither beginning nor end where events have identities: a version may have moved from anywhere.

    Raises:
        PlanError: The clock is ``served`` and the view has no availability.

    Example:
        >>> import mlflow_core as ml
        >>> orders = ml.ParquetSource("orders", path="orders.parquet", event_time="placed")
        >>> hour = ml.Agg("amount", "sum", over="1h", offset="10us")
        >>> view = ml.FeatureView("spending", entity=None, source=orders, features=[hour])
        >>> needed_span(ViewRead(view, view.feature_names, "event", ()), 0, 100)
        (-3600000009, 90)
    """
    if read.view.source.event_id is not None:
        return None, None
    earliest, latest = _evaluated(read, first_us), _evaluated(read, last_us)
    spans: list[Span] = [
        _window_span(window, earliest, latest) for window in read.view.windows if window.name in read.features
    ]
    if any(name in read.features for name in read.view.latest):
        # A TTL counts from the row's own time, also where the values are those of an earlier boundary.
        spans.append((None if read.view.ttl is None else first_us - int(read.view.ttl), latest))
    return joint_span(spans) if spans else (latest, latest)


def joint_span(spans: Iterable[Span]) -> Span:
    """Return the least span that covers some spans, at least one.

    Example:
        >>> joint_span([(5, 10), (None, 7)])
        (None, 10)
    """
    firsts, lasts = zip(*spans, strict=True)
    return (
        None if None in firsts else min(firsts),
        None if None in lasts else max(lasts),
    )


def _evaluated(read: ViewRead, time: int) -> int:
    """The evaluation time of an entity row; it never falls while the row's time rises."""
    if read.clock != "served":
        return time
    if read.view.availability is None:
        raise PlanError(
            'has no availability, which clock "served" needs',
            object=read.view.title,
            place=read.view.place,
            expected='availability=Every("1h", delay="10m") or the like',
        )
    return read.view.availability.boundary(time)


def _window_span(window: WindowColumn, earliest: int, latest: int) -> tuple[int, int]:
    """The events that are in a window at any evaluation time of a range."""
    step = int(window.hop) if window.hop is not None else 1
    start = (earliest - int(window.offset) - int(window.over)) // step * step
    end = latest - int(window.offset)
    return (start + 1, end) if window.boundary == "(]" else (start, end - 1)
