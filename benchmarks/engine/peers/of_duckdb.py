"""DuckDB in one process with all cores: chained ASOF joins, and a range join for windows and for clock ``known``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from benchmarks.engine.job import Call, Job

__all__ = ["duckdb_"]

FUNCTIONS = {"count": "count", "sum": "sum", "mean": "avg", "min": "min", "max": "max"}


@contextmanager
def duckdb_(job: Job) -> Iterator[Callable[[Job], Call]]:
    """Latest values or windows, as the job says."""
    del job

    def ready(job: Job) -> Call:
        if job.windows:
            return _run(job, _windows(job))
        return _run(job, _known(job) if job.clock == "known" else _latest(job))

    yield ready


def _run(job: Job, query: str) -> Call:
    def run(out: Path, cache: Path) -> None:
        del cache
        with duckdb.connect(config={"temp_directory": str(Path(job.scratch) / "duckdb")}) as duck:
            duck.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
            duck.execute(f"COPY ({query}) TO '{out}/part.parquet' (FORMAT parquet, COMPRESSION snappy)")

    return run


def _latest(job: Job) -> str:
    old = (
        ""
        if job.ttl_hours is None
        else f" AND r.event_timestamp - {{0}}.time <= INTERVAL {job.ttl_hours} HOUR"
    )
    columns = [
        f"CASE WHEN TRUE{old.format(one.name)} THEN {one.name}.{name} END AS {name}"
        if old
        else f"{one.name}.{name}"
        for one in job.sources
        for name in one.features
    ]
    joins = " ".join(
        f"ASOF LEFT JOIN '{one.glob}' {one.name} ON r.key = {one.name}.key AND r.event_timestamp >= {one.name}.time"
        for one in job.sources
    )
    return f"SELECT r.*, {', '.join(columns)} FROM '{job.rows}' r {joins}"


def _known(job: Job) -> str:
    """The visible event with the greatest event time, which no ASOF join can say."""
    selected, joins = [], []
    for one in job.sources:
        best = ", ".join(f"arg_max(e.{name}, e.time) AS {name}" for name in one.features)
        joins.append(
            f"LEFT JOIN (SELECT r.row, {best} FROM '{job.rows}' r JOIN '{one.glob}' e ON r.key = e.key "
            f"AND e.time <= r.event_timestamp AND e.known <= r.event_timestamp GROUP BY r.row) {one.name} "
            f"ON a.row = {one.name}.row"
        )
        selected += [f"{one.name}.{name}" for name in one.features]
    return f"SELECT a.*, {', '.join(selected)} FROM '{job.rows}' a {' '.join(joins)}"


def _windows(job: Job) -> str:
    source = job.sources[0]
    (name,) = source.features
    known = " AND e.known <= r.event_timestamp" if job.clock == "known" else ""
    # One join over the longest window; the others are filters inside it.
    answers = ", ".join(
        f"{FUNCTIONS[function]}(e.{name}) FILTER (e.time > r.event_timestamp - INTERVAL {hours} HOUR) "
        f"AS {name}_{function}_{hours}h"
        for function in FUNCTIONS
        for hours in job.windows
    )
    return (
        f"SELECT r.key, r.event_timestamp, r.row, {answers} FROM '{job.rows}' r LEFT JOIN '{source.glob}' e "
        f"ON r.key = e.key AND e.time <= r.event_timestamp "
        f"AND e.time > r.event_timestamp - INTERVAL {max(job.windows)} HOUR{known} "
        "GROUP BY r.key, r.event_timestamp, r.row"
    )
