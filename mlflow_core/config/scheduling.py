"""The section ``[schedule]``: what ``mlcore scheduler`` sees to beside pipelines. Starts nothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from mlflow_core.config.section import Section

__all__ = ["ScheduleSettings"]


def _said(value: object) -> object:
    """Environment variables and command lines say it as text: ``true``, ``false``, or names with commas between."""
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    if text in ("true", "false"):
        return text == "true"
    return tuple(name.strip() for name in value.split(",") if name.strip())


class ScheduleSettings(Section):
    """What the scheduler sees to beside pipelines.

    Args:
        materialize: Whether views are materialised as they become available: all that have an availability, those
            that are named, or none. In force from the next ``mlcore apply`` on.
    """

    materialize: Annotated[bool | tuple[str, ...], BeforeValidator(_said)] = False
