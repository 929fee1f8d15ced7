"""When a batch view's values can be used: the boundaries of its materialisation and how long after them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from pydantic import field_validator, model_validator

from mlflow_core.spec.duration import Duration, Length
from mlflow_core.spec.model import Spec

__all__ = ["Every"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Every(Spec):
    """Boundaries at ``anchor + n * every``; a boundary's values can be used ``delay`` after it.

    Args:
        every: Time between two boundaries, e.g. ``"1h"``.
        delay: How long after a boundary its values are there, the run's own time included.
        anchor: One of the boundaries (a naive time is UTC).

    Example:
        >>> hourly = Every("1h", delay="10m")
        >>> hourly.boundary(3_600_000_000 + 9 * 60_000_000), hourly.boundary(3_600_000_000 + 10 * 60_000_000)
        (0, 3600000000)
    """

    positional: ClassVar[tuple[str, ...]] = ("every",)
    every: Duration
    delay: Duration = Duration("0s")
    anchor: datetime = _EPOCH

    if TYPE_CHECKING:

        def __init__(
            self,
            every: Length,
            *,
            delay: Length = ...,
            anchor: datetime | str = ...,
        ) -> None: ...

    @field_validator("anchor")
    @classmethod
    def _in_utc(cls, anchor: datetime) -> datetime:
        return anchor.replace(tzinfo=UTC) if anchor.tzinfo is None else anchor.astimezone(UTC)

    @model_validator(mode="after")
    def _forward(self) -> Every:
        if self.every <= 0:
            raise ValueError(f'field "every" is {self.every}; it must be longer than nothing')
        if self.delay < 0:
            raise ValueError(f'field "delay" is {self.delay}; values cannot be there before their boundary')
        return self

    @property
    def anchor_us(self) -> int:
        """The anchor in microseconds since epoch, UTC."""
        since = self.anchor - _EPOCH
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds

    def floor(self, time: int) -> int:
        """Return the last boundary at or before a time (both microseconds since epoch, UTC)."""
        return self.anchor_us + (time - self.anchor_us) // self.every * int(self.every)

    def boundary(self, time: int) -> int:
        """Return b(t): the last boundary whose values can be used at a time (both microseconds, UTC)."""
        return self.floor(time - self.delay)
