"""What ``mlcore schedule`` says of a schedule, in words and times."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from mlflow_core.config.times import format_duration
from mlflow_core.workflow.schedule.drifting import DRIFTED
from mlflow_core.workflow.schedule.times import times_after
from mlflow_core.workflow.schedule.views import due_times, view_of
from mlflow_core.workflow.schedule.watching import is_watch

if TYPE_CHECKING:
    from mlflow_core.metadata import Schedule

__all__ = ["last_of", "local_time", "next_of", "starts_of", "state_of"]


def starts_of(one: Schedule) -> str:
    """Say what starts it, e.g. ``30 2 * * mon-fri UTC``, ``as available, every 1h + 10m`` or ``orders 6h newer``.

    Of drifting features it is ``a feature drifted by 0.2 over 7d``.
    """
    if view_of(one) is not None:
        availability = one.triggers["availability"]
        delay = f" + {availability['delay']}" if "delay" in availability else ""
        return f"as available, every {availability['every']}{delay}"
    if is_watch(one):
        told = _waited_for(one.triggers["when"])
        least = one.triggers["at_least_us"]
        return told if least is None else f"{told}, or after {format_duration(least)}"
    return f"{one.cron} {one.zone}"


def _waited_for(when: Mapping[str, Any]) -> str:
    if when["kind"] == DRIFTED:
        at_least, of = int(when["at_least"]), len(when["features"])
        which = "a feature" if at_least == 1 else f"{at_least} features"
        if of:
            which = str(when["features"][0]) if of == 1 else f"{at_least} of {of} features"
        return f"{which} drifted by {when['by']:g} over {format_duration(int(when['over_us']))}"
    by = int(when.get("by_us", 0))
    return f"{when['of']} {format_duration(by)} newer" if by else f"{when['of']} changed"


def state_of(one: Schedule, now_us: int) -> str:
    """Say whether it is ``running``, ``paused`` or ``waits``."""
    if one.lease_owner is not None and (one.lease_until_us or 0) > now_us:
        return "running"
    return "paused" if one.paused else "waits"


def last_of(one: Schedule) -> str:
    """Say what came of its last start, and what it last saw or how far it has come."""
    told = [one.last_error or one.last_run or ""]
    if is_watch(one):
        problem = one.seen.get("problem")
        told.append(f"cannot look: {problem}" if problem else f"saw {one.seen.get('told') or 'nothing yet'}")
    elif "failures" in one.seen:
        told.append(f"failed {one.seen['failures']} times, is tried again")
    elif "reached" in one.seen:
        told.append(f"to {one.seen['reached']}")
    return "; ".join(part for part in told if part)


def next_of(one: Schedule, now_us: int, count: int) -> tuple[str, list[int]]:
    """Say when it is due next.

    Args:
        one: The schedule.
        now_us: Now, microseconds since the epoch, UTC.
        count: How many times are wanted.

    Returns:
        ``start``, and as many times, microseconds since the epoch, UTC; or ``look`` and the time of the next one.
    """
    if view_of(one) is not None:
        return "start", due_times(one.triggers, now_us, count)
    if is_watch(one):
        return "look", [] if one.next_us is None else [one.next_us]
    return "start", list(
        islice(times_after(one.cron, one.zone, now_us), count)
    ) if one.cron is not None else []


def local_time(time_us: int, zone: str) -> str:
    """Write a time by the clock of a zone, e.g. ``Mon 2026-03-30 02:30 CEST``."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return moment.astimezone(ZoneInfo(zone)).strftime("%a %Y-%m-%d %H:%M %Z")
