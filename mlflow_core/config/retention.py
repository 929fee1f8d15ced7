"""The section ``[retention]``: how long what nobody needs any more is kept. Removes nothing: ``mlcore gc`` does."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from mlflow_core.config.section import Section
from mlflow_core.config.times import parse_duration
from mlflow_core.errors import UsageError

__all__ = ["FOREVER", "RetentionSettings"]

FOREVER: Final = "forever"


def _is_length(text: str) -> str:
    if text == FOREVER:
        return text
    try:
        length = parse_duration(text)
    except UsageError as error:
        raise ValueError(f'{error}; or "{FOREVER}"') from error
    if length < 0:
        raise ValueError("nothing can be kept for less than no time")
    return text


def _a_number(value: object) -> object:
    """Numbers come as texts from environment variables and command lines."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Length = Annotated[str, AfterValidator(_is_length)]


class RetentionSettings(Section):
    """How long things are kept that nobody needs any more; each is a duration such as ``30d``, or ``forever``.

    Args:
        artifacts: What a run left, after it ended. What runs that are going on, each pipeline's last good run, kept
            model versions and kept training sets are made of stays anyway.
        versions: ``all``, or how many of a model's newest versions are kept beside those that an alias points at or
            that are deployed.
        datasets: Training sets, after they were built or found again last; those of kept runs and of models in use stay anyway.
        caches: Layouts of sources, after they were used.
        logs: Runs' logs and reports outside of the artifact store.
        young: What was stored within this time stays whatever it is, for its run may not have written it down yet.
    """

    artifacts: Length = "90d"
    versions: Annotated[Literal["all"] | Annotated[int, Field(ge=1)], BeforeValidator(_a_number)] = "all"
    datasets: Length = "180d"
    caches: Length = "30d"
    logs: Length = "90d"
    young: Length = "1d"

    def length_us(self, name: str) -> int | None:
        """Return one of the durations in microseconds; None for ever.

        Args:
            name: Which key.
        """
        text: str = getattr(self, name)
        return None if text == FOREVER else parse_duration(text)

    @property
    def newest(self) -> int | None:
        """How many versions of a model are kept at least; None for all."""
        return None if self.versions == "all" else self.versions
