"""When a pipeline is started by itself: by a cron line in a time zone, or when something has come about.

What can come about is new data, or data that have drifted away from what a model was trained on. Materialisation is not
scheduled here: it follows each view's availability. Which moments a line means, also where clocks are put forward or back,
is ``mlflow_core.workflow.schedule.times``; how a condition is looked at is ``mlflow_core.workflow.schedule.conditions``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import field_validator, model_validator

from mlflow_core.spec.duration import Duration, Length
from mlflow_core.spec.model import Spec
from mlflow_core.spec.source import Source
from mlflow_core.spec.view import FeatureView

__all__ = ["Drifted", "Fresh", "Schedule"]

_FIELDS = 5
_RANGE_OF_ONE = re.compile(r"\b(\w+)-\1\b", re.IGNORECASE)
_NICKNAMES = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
_SECOND = Duration("1s")


class Fresh(Spec):
    """A condition: a source has data that were not there when the pipeline was started last.

    Args:
        of: The source, or a view, whose source is meant.
        by: How much newer the newest event has to be, e.g. ``"6h"``; by default any change of the data will do,
            corrections of old rows too.
        look: How often the source is looked at. No row is read: files are listed and their footers read where they
            have changed, tables of databases are counted.

    Example:
        >>> from mlflow_core.spec import ParquetSource
        >>> orders = ParquetSource("orders", path="orders/*.parquet", event_time="placed")
        >>> Fresh(orders, by="6h").source.name
        'orders'
    """

    positional: ClassVar[tuple[str, ...]] = ("of",)
    of: FeatureView | Source
    by: Duration = Duration("0s")
    look: Duration = Duration("1m")

    if TYPE_CHECKING:

        def __init__(self, of: FeatureView | Source, *, by: Length = ..., look: Length = ...) -> None: ...

    @model_validator(mode="after")
    def _forward(self) -> Fresh:
        if self.by < 0:
            raise ValueError(f'field "by" is {self.by}; data cannot be newer by less than nothing')
        if self.look < _SECOND:
            raise ValueError(f'field "look" is {self.look}; a source is looked at once a second at most')
        return self

    @property
    def source(self) -> Source:
        """The source that is looked at."""
        return self.of.source if isinstance(self.of, FeatureView) else self.of


class Drifted(Spec):
    """A condition: the features that a model would see now are not as those that it was trained on.

    Compared are a training pipeline's features in two samples of at most 20,000 rows: the training part of the
    training set of its last run that succeeded; and the observations of the last ``over``, up to the newest one of
    the spine's source, labelled or not, with their features as of then. The distance of a feature is its population
    stability index, in bins of the training part. It is no reason to start where either side has less than 200 rows.

    Args:
        by: The distance that is too far: 0.1 is little, 0.2 is what many look into.
        over: How far back from the newest observation the rows reach that are looked at.
        features: The features that are compared; all by default.
        at_least: How many of them have to be farther than ``by``.
        look: How often it is looked at. Rows are read only where data have changed, or another run has succeeded.

    Example:
        >>> str(Drifted(by=0.25, over="14d", features=["dep_delay"]).over)
        '14d'
    """

    kind: Literal["drifted"] = "drifted"
    by: float = 0.2
    over: Duration = Duration("7d")
    features: tuple[str, ...] = ()
    at_least: int = 1
    look: Duration = Duration("1h")

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            by: float = ...,
            over: Length = ...,
            features: Sequence[str] = (),
            at_least: int = 1,
            look: Length = ...,
        ) -> None: ...

    @model_validator(mode="after")
    def _can_come_about(self) -> Drifted:
        if not (math.isfinite(self.by) and self.by > 0):
            raise ValueError(f'field "by" is {self.by}; a distance that is too far is a number above 0')
        if self.over <= 0:
            raise ValueError(f'field "over" is {self.over}; it has to reach back')
        twice = sorted({name for name in self.features if self.features.count(name) > 1})
        if twice:
            raise ValueError(f'field "features" names {twice[0]} twice')
        if self.at_least < 1:
            raise ValueError(f'field "at_least" is {self.at_least}; one feature at least has to drift')
        if self.features and self.at_least > len(self.features):
            raise ValueError(
                f'field "at_least" is {self.at_least}, and "features" names {len(self.features)} of them'
            )
        if self.look < _SECOND:
            raise ValueError(f'field "look" is {self.look}; it is looked at once a second at most')
        return self


class Schedule(Spec):
    """When a pipeline is started: at the times of a cron line, or when a condition holds.

    Args:
        cron: Minute, hour, day of month, month, day of week, e.g. ``"0 6 * * *"``; or ``@daily`` and the like.
        zone: A time zone of the IANA database, e.g. ``"Europe/Berlin"``, which the line's hours are in.
        when: A condition instead of a line.
        at_most_every: Time that passes at least between two starts that a condition causes.
        at_least_every: After this time without a start the pipeline is started though the condition does not hold.

    Example:
        >>> Schedule(cron="0 6 * * mon-fri", zone="Europe/Berlin").zone
        'Europe/Berlin'
        >>> from mlflow_core.spec import ParquetSource
        >>> orders = ParquetSource("orders", path="orders/*.parquet", event_time="placed")
        >>> str(Schedule(when=Fresh(orders, by="6h"), at_least_every="7d").at_most_every)
        '10m'
    """

    positional: ClassVar[tuple[str, ...]] = ("cron",)
    cron: str | None = None
    zone: str = "UTC"
    when: Fresh | Drifted | None = None
    at_most_every: Duration = Duration("10m")
    at_least_every: Duration | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            cron: str | None = None,
            *,
            zone: str = "UTC",
            when: Fresh | Drifted | None = None,
            at_most_every: Length = ...,
            at_least_every: Length | None = None,
        ) -> None: ...

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, cron: str | None) -> str | None:
        if cron is None:
            return None
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

    @model_validator(mode="after")
    def _one_way(self) -> Schedule:
        if (self.cron is None) == (self.when is None):
            raise ValueError('needs exactly one of "cron" and "when"')
        if self.cron is not None:
            for name in ("at_most_every", "at_least_every"):
                if name in self.model_fields_set:
                    raise ValueError(f'field "{name}" goes with "when"; a cron line says how often by itself')
        elif "zone" in self.model_fields_set:
            raise ValueError('field "zone" goes with "cron"; a condition has no hours')
        if self.at_most_every < 0:
            raise ValueError(f'field "at_most_every" is {self.at_most_every}; it cannot be less than nothing')
        if self.at_least_every is not None and self.at_least_every <= self.at_most_every:
            raise ValueError(
                f'field "at_least_every" is {self.at_least_every}; '
                f'it must be longer than "at_most_every", which is {self.at_most_every}'
            )
        return self
