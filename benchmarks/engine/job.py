"""What a contestant is asked to do: files in, features at entity rows, files out. It travels as JSON to a subprocess."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

__all__ = ["AGGREGATES", "Call", "Events", "Job", "Result"]

AGGREGATES = ("count", "sum", "mean", "min", "max")
Call = Any  # a function (out: Path, cache: Path) -> None, of which the time is taken


@dataclass(frozen=True, slots=True)
class Events:
    """One source: a folder of Parquet files with key, time, known, created, event_id and feature columns.

    Attributes:
        name: The view's name.
        folder: Where its files are.
        features: The columns wanted, float64.
    """

    name: str
    folder: str
    features: tuple[str, ...]

    @property
    def glob(self) -> str:
        """All its files."""
        return f"{self.folder}/*.parquet"

    @property
    def files(self) -> list[Path]:
        """All its files, in the order of their names, which is that of time."""
        return sorted(Path(self.folder).glob("*.parquet"))


@dataclass(frozen=True, slots=True)
class Job:
    """A retrieval.

    Attributes:
        sources: The views.
        rows: Parquet file of entity rows: key, event_timestamp, row (their place, from 0).
        scratch: A folder for whatever is needed on the way.
        windows: Hours of the windows of ``AGGREGATES``; empty for latest values.
        ttl_hours: How old a latest value may be.
        clock: ``event`` or ``known``.
        created: Whether the events have versions that ``created`` orders.
        identity: Whether events are told apart by ``event_id``, so that a later version replaces an earlier one.
    """

    sources: tuple[Events, ...]
    rows: str
    scratch: str
    windows: tuple[int, ...] = ()
    ttl_hours: int | None = None
    clock: str = "event"
    created: bool = False
    identity: bool = False

    @property
    def columns(self) -> list[str]:
        """The output columns, in order."""
        if not self.windows:
            return [name for source in self.sources for name in source.features]
        return [
            f"{name}_{function}_{hours}h"
            for source in self.sources
            for name in source.features
            for function in AGGREGATES
            for hours in self.windows
        ]

    def under(self, clock: str) -> Job:
        """Return the same under another clock."""
        return replace(self, clock=clock)

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Job:
        """Read what ``to_json`` wrote."""
        given = json.loads(text)
        sources = tuple(Events(s["name"], s["folder"], tuple(s["features"])) for s in given.pop("sources"))
        return Job(sources=sources, windows=tuple(given.pop("windows")), **given)


@dataclass(frozen=True, slots=True)
class Result:
    """What a contestant did.

    Attributes:
        outcome: ``done``, or in words why not.
        seconds: Median wall time of ``cold`` runs and, where something is kept between runs, of ``warm`` ones.
        peak: The most memory of the process and its children together, bytes resident.
        worker_rss: The most of any one child process, bytes resident.
        worker_uss: The most of any one child process, bytes that are its own alone.
        out: The folder with the last run's Parquet files, one folder a phase.
        limit: The time-out, seconds; None without one.
    """

    outcome: str
    seconds: dict[str, float]
    peak: int
    worker_rss: int
    worker_uss: int
    out: Path
    limit: float | None = None

    @property
    def done(self) -> bool:
        """Whether it finished."""
        return self.outcome == "done"

    @property
    def timed_out(self) -> bool:
        """Whether it was ended because it took too long."""
        return self.outcome.startswith(">")

    def forget(self) -> None:
        """Delete all that it wrote."""
        shutil.rmtree(self.out.parent, ignore_errors=True)
