"""Clocks and windows as intervals: from which evaluation time on an event counts, and until when.

Every clock comes down to this. An evaluation time T belongs to each entity row (its own time, or under
``served`` the boundary whose values were served then), and each event version has a half-open interval
``[enter, leave)`` of evaluation times at which it is seen. A window narrows the interval. Kernels know
intervals only, no clock.

Derivation for a window of length w and offset o with hop h (exact edges are a hop of one microsecond). The
window's start is ``S = floor((T - o - w) / h) * h``. For "(]" the event is in it while ``S < t_e <= T - o``:
the right edge gives ``T >= t_e + o``, the left ``floor((T - o - w) / h) < t_e / h``, that is
``T < ceil(t_e / h) * h + o + w``. For "[)" ``S <= t_e < T - o`` gives ``T >= t_e + o + 1`` and
``T < (floor(t_e / h) + 1) * h + o + w``.
"""

from __future__ import annotations

import numpy as np

from mlflow_core.engine.times import Int64, floor_to, plus
from mlflow_core.errors import PlanError
from mlflow_core.spec import ClockName, FeatureView, WindowColumn

__all__ = ["evaluation_times", "visible_from", "window_edges", "window_interval"]


def evaluation_times(times: Int64, view: FeatureView, clock: ClockName) -> Int64:
    """Return the time T at which windows and visibility are evaluated for entity rows.

    Args:
        times: The entity rows' times, microseconds, int64 (n,).
        view: Whose features are read.
        clock: ``served`` gives the last boundary whose values could be used; the others the time itself.

    Raises:
        PlanError: The clock is ``served`` and the view declares no availability.
    """
    if clock != "served":
        return times
    every = view.availability
    if every is None:
        raise PlanError(
            'has no availability, which clock "served" needs',
            object=view.title,
            place=view.place,
            expected='availability=Every("1h", delay="10m") or the like',
        )
    anchor, step = every.anchor_us, int(every.every)
    return plus(floor_to(plus(times, -int(every.delay) - anchor), step), anchor)


def visible_from(times: Int64, known: Int64, view: FeatureView, clock: ClockName) -> Int64:
    """Return the first evaluation time at which each event version is visible.

    Args:
        times: Event times, microseconds, int64 (n,).
        known: When each version was known, at least its event time, int64 (n,).
        view: Whose availability gives the delay of ``served``.
        clock: Under ``served`` a version needs ``t_e <= b`` and ``known <= b + delay``.
    """
    if clock == "event":
        return times
    if clock == "known" or view.availability is None:
        return known
    return np.maximum(times, plus(known, -int(view.availability.delay)))


def window_interval(times: Int64, start: Int64, end: Int64, window: WindowColumn) -> tuple[Int64, Int64]:
    """Narrow visibility to a window.

    Args:
        times: Event times, microseconds, int64 (n,).
        start: First evaluation time at which the event is visible, int64 (n,).
        end: First evaluation time at which it no longer is, int64 (n,).
        window: Length, offset, boundary and hop.

    Returns:
        (enter, leave), int64 (n,) each: the event is in the window at T while ``enter <= T < leave``.
    """
    step = int(window.hop) if window.hop is not None else 1
    offset, reach = int(window.offset), int(window.offset) + int(window.over)
    if window.boundary == "(]":
        edge = plus(floor_to(plus(times, -1), step), step)  # the next multiple at or after t_e
        enter = plus(times, offset)
    else:
        edge = plus(floor_to(times, step), step)
        enter = plus(times, offset + 1)
    return np.maximum(start, enter), np.minimum(end, plus(edge, reach))


def window_edges(at: Int64, window: WindowColumn) -> tuple[Int64, Int64]:
    """Return between which event times a window lies at some evaluation times: ``after < t_e <= until``.

    The same rule as ``window_interval``, told from the entity row instead of the event.

    Args:
        at: Evaluation times, microseconds, int64 (n,).
        window: Length, offset, boundary and hop.
    """
    step = int(window.hop) if window.hop is not None else 1
    until = plus(at, -int(window.offset))
    after = floor_to(plus(until, -int(window.over)), step)
    if window.boundary == "(]":
        return after, until
    return plus(after, -1), plus(until, -1)
