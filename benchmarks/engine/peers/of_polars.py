"""polars in one process with all cores: ``join_asof``, and ``rolling`` by key (``rolling_*_by`` took half as long again)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from benchmarks.engine.job import Call, Job

__all__ = ["polars_"]


@contextmanager
def polars_(job: Job) -> Iterator[Callable[[Job], Call]]:
    """Latest values or windows, as the job says."""
    del job
    yield lambda job: _windows(job) if job.windows else _latest(job)


def _latest(job: Job) -> Call:
    ttl = None if job.ttl_hours is None else f"{job.ttl_hours}h"
    order = ["time", "created"] if job.created else ["time"]

    def run(out: Path, cache: Path) -> None:
        del cache
        rows = pl.read_parquet(job.rows).sort("event_timestamp")
        for source in job.sources:
            events = pl.read_parquet(source.glob, columns=["key", *order, *source.features])
            rows = rows.join_asof(
                events.sort(order).select("key", "time", *source.features),
                left_on="event_timestamp",
                right_on="time",
                by="key",
                tolerance=ttl,
                check_sortedness=False,
            ).drop("time", strict=False)
        rows.write_parquet(out / "part.parquet", compression="snappy")

    return run


def _windows(job: Job) -> Call:
    source = job.sources[0]
    (name,) = source.features
    value = pl.col(name)

    def run(out: Path, cache: Path) -> None:
        del cache
        events = pl.scan_parquet(source.glob).select("key", "time", value)
        rows = pl.scan_parquet(job.rows).rename({"event_timestamp": "time"})
        both = pl.concat([events, rows], how="diagonal").sort("key", "time").collect()
        found = pl.collect_all([_rolling(both.lazy(), name, hours) for hours in job.windows])
        # Each has the entity rows in the same order.
        places = found[0].select("key", "event_timestamp", "row")
        answers = [one.drop("key", "event_timestamp", "row") for one in found]
        pl.concat([places, *answers], how="horizontal").write_parquet(
            out / "part.parquet", compression="snappy"
        )

    return run


def _rolling(both: pl.LazyFrame, name: str, hours: int) -> pl.LazyFrame:
    value = pl.col(name)
    rolled = both.rolling("time", period=f"{hours}h", closed="right", group_by="key").agg(
        # A window's last row is the one that it belongs to: no two have the same time.
        pl.col("row").last(),
        value.count().alias(f"{name}_count_{hours}h"),
        value.sum().alias(f"{name}_sum_{hours}h"),
        value.mean().alias(f"{name}_mean_{hours}h"),
        value.min().alias(f"{name}_min_{hours}h"),
        value.max().alias(f"{name}_max_{hours}h"),
    )
    # polars' sum of nothing is 0, ours and SQL's is null.
    nothing = pl.when(pl.col(f"{name}_count_{hours}h") > 0).then(pl.col(f"{name}_sum_{hours}h"))
    asked = rolled.filter(pl.col("row").is_not_null())
    return asked.with_columns(nothing.alias(f"{name}_sum_{hours}h")).rename({"time": "event_timestamp"})
