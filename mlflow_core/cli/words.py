"""``key=value`` words and moments of a command line, as the serving verbs take them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_core.errors import UsageError

if TYPE_CHECKING:
    from mlflow_core.cli.context import Invocation
    from mlflow_core.config import Clock

__all__ = ["AtOption", "ClockOption", "PerformanceReportOption", "Values", "clock_of_call", "values_of_words"]

AtOption = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help="Answer as if it were this time, e.g. 2013-11-15T12:30Z."),
]
ClockOption = Annotated[
    str | None,
    typer.Option(
        "--clock",
        metavar="NOW",
        help="What time it is taken to be: system, a time, a distance such as -30d, or from:TIME, which runs "
        "on from there; by default the settings'.",
    ),
]
PerformanceReportOption = Annotated[
    Path | None,
    typer.Option(
        "--performance-report",
        metavar="FILE",
        help="Write Dask's own report on the cluster's work there, as HTML.",
    ),
]
Values = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE...", help="Keys and request fields; KEY= is null.", show_default=False),
]


def values_of_words(words: Sequence[str] | None) -> dict[str, str]:
    """Read ``key=value`` words.

    Raises:
        UsageError: A word has no ``=``, or a key is given twice.

    Example:
        >>> values_of_words(["carrier=UA", "note=a=b"])
        {'carrier': 'UA', 'note': 'a=b'}
    """
    values: dict[str, str] = {}
    for word in words or ():
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f'"{word}" is no KEY=VALUE', expected="words such as carrier=UA")
        if key in values:
            raise UsageError(f'"{key}" is given twice')
        values[key] = value
    return values


def clock_of_call(call: Invocation, *, at: str | None = None, clock: str | None = None) -> Clock:
    """Return the clock that a verb's options ask for, by default the settings' own.

    Raises:
        UsageError: The text is no time or clock.
    """
    from mlflow_core.config import FixedClock, parse_clock, parse_time

    if at is not None:
        return FixedClock(parse_time(at))
    return call.clock if clock is None else parse_clock(clock)
