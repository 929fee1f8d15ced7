"""Settings, secrets, principals, clocks and times: what every other room is told about where it runs.

Nothing here reads data or opens a database. The names below load on first use, so that a process that only
needs a clock does not pay for pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_core.config.clock import Clock, FixedClock, ShiftedClock, SystemClock, parse_clock
    from mlflow_core.config.principal import Principal, claimed_principal, os_principal
    from mlflow_core.config.secret import Secret, reveal
    from mlflow_core.config.settings import Entry, Settings, load_settings
    from mlflow_core.config.times import format_duration, format_time, parse_duration, parse_time

_HOME = {
    "Clock": "clock",
    "FixedClock": "clock",
    "ShiftedClock": "clock",
    "SystemClock": "clock",
    "parse_clock": "clock",
    "Principal": "principal",
    "claimed_principal": "principal",
    "os_principal": "principal",
    "Secret": "secret",
    "reveal": "secret",
    "Entry": "settings",
    "Settings": "settings",
    "load_settings": "settings",
    "format_duration": "times",
    "format_time": "times",
    "parse_duration": "times",
    "parse_time": "times",
}

__all__ = [
    "Clock",
    "Entry",
    "FixedClock",
    "Principal",
    "Secret",
    "Settings",
    "ShiftedClock",
    "SystemClock",
    "claimed_principal",
    "format_duration",
    "format_time",
    "load_settings",
    "os_principal",
    "parse_clock",
    "parse_duration",
    "parse_time",
    "reveal",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
