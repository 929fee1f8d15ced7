"""polars in one process with all cores: ``join_asof`` and ``rolling_*_by``."""

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
        answers = []
        for hours in job.windows:
            over = {"by": "time", "window_size": f"{hours}h", "closed": "right", "min_samples": 1}
            answers += [
                value.is_not_null()
                .cast(pl.Int64)
                .rolling_sum_by(**over)
                .over("key")
                .alias(f"{name}_count_{hours}h"),
                value.rolling_sum_by(**over).over("key").alias(f"{name}_sum_{hours}h"),
                value.rolling_mean_by(**over).over("key").alias(f"{name}_mean_{hours}h"),
                value.rolling_min_by(**over).over("key").alias(f"{name}_min_{hours}h"),
                value.rolling_max_by(**over).over("key").alias(f"{name}_max_{hours}h"),
            ]
        kept = both.select("key", "time", "row", *answers).filter(pl.col("row").is_not_null())
        kept.write_parquet(out / "part.parquet", compression="snappy")

    return run
