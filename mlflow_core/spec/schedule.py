"""When a pipeline is started by itself: a cron line in a time zone.

Materialisation is not scheduled here: it follows each view's availability. Which moments a line means, also where clocks
are put forward or back, is ``mlflow_core.workflow.schedule.times``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar
from zoneinfo import ZoneInfo

from pydantic import field_validator

from mlflow_core.spec.model import Spec

__all__ = ["Schedule"]

_FIELDS = 5
_RANGE_OF_ONE = re.compile(r"\b(\w+)-\1\b", re.IGNORECASE)
_NICKNAMES = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")


class Schedule(Spec):
    """A cron line and the time zone that its hours are in.

    Args:
        cron: Minute, hour, day of month, month, day of week, e.g. ``"0 6 * * *"``; or ``@daily`` and the like.
        zone: A time zone of the IANA database, e.g. ``"Europe/Berlin"``.

    Example:
        >>> Schedule(cron="0 6 * * mon-fri", zone="Europe/Berlin").zone
        'Europe/Berlin'
    """

    positional: ClassVar[tuple[str, ...]] = ("cron",)
    cron: str
    zone: str = "UTC"

    if TYPE_CHECKING:

        def __init__(self, cron: str, *, zone: str = "UTC") -> None: ...

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, cron: str) -> str:
        text = " ".join(cron.split())
        if text.startswith("@"):
            if text not in _NICKNAMES:
                raise ValueError(f'"{cron}" is none of {", ".join(_NICKNAMES)}')
            return text
        if len(text.split()) != _FIELDS:
            raise ValueError(
                f'"{cron}" has {len(text.split())} fields; five are: minute, hour, day of month, month, day of week'
            )
        # Whatever reads declarations would pay for it at import.
        from croniter import CroniterError, croniter

        try:
            # A field of "h" or "r" means another time in each process.
            if any(field[:1].lower() in ("h", "r") for field in text.split()):
                raise ValueError(f'"{cron}" leaves a time to chance; write it')
            croniter.expand(text)
            # The library reads a range from a value to itself as all values.
            if wrong := _RANGE_OF_ONE.search(text):
                raise ValueError(f'"{cron}": write {wrong[1]} for {wrong[0]}')
        except CroniterError as error:
            raise ValueError(f'"{cron}" is no cron line: {error}') from None
        return text

    @field_validator("zone")
    @classmethod
    def _is_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f'"{zone}" is no time zone, such as "UTC" or "Europe/Berlin"') from None
        return zone
