"""Made events and entity rows on which every peer must agree: distinct times, and a value for everybody.

Each source has files by time, each in order of arrival, as a platform would have written them: 10 % of the events
are known up to 3 days late, which clock ``event`` does not look at. The first events of a source are one for each
key, and entity rows come later, because Feast's Dask store loses rows without a value.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.engine.job import Events, Job

__all__ = ["DAY", "START", "TIME", "key_ids", "latest_world", "windows_world", "write_rows"]

TIME = pa.timestamp("us", tz="UTC")
DAY = 86_400_000_000
START = 1_704_067_200_000_000  # 2024-01-01
Array = np.ndarray[Any, Any]
ROWS_A_FILE, MOST_FILES = 500_000, 12


def latest_world(
    folder: Path, n_events: int, n_rows: int, n_keys: int, *, seed: int, zipf: bool = False
) -> Job:
    """Five sources with four features each, ``n_events`` in all, and entity rows that ask for all of them."""
    rng = np.random.default_rng(seed)
    keys = _zipf(n_keys) if zipf else lambda rng, n: rng.integers(0, n_keys, n)
    n = n_events // 5
    sources = tuple(
        _write_source(
            folder / f"view{number}",
            tuple(f"f{number}{letter}" for letter in "abcd"),
            n,
            n_keys,
            keys,
            365 * DAY,
            rng,
        )
        for number in range(5)
    )
    rows = _write_asked(folder, n, n_rows, n_keys, keys, 365 * DAY, rng)
    return Job(sources, str(rows), str(folder))


def windows_world(folder: Path, n_events: int, n_rows: int, n_keys: int, *, seed: int) -> Job:
    """One source with one value over 30 days, and windows of 6, 24 and 72 hours."""
    rng = np.random.default_rng(seed)

    def keys(rng: np.random.Generator, n: int) -> Array:
        return rng.integers(0, n_keys, n)

    source = _write_source(folder / "events", ("value",), n_events, n_keys, keys, 30 * DAY, rng)
    rows = _write_asked(folder, n_events, n_rows, n_keys, keys, 30 * DAY, rng)
    return Job((source,), str(rows), str(folder), windows=(6, 24, 72))


def key_ids(ranks: Array) -> Array:
    """Spread small numbers over all of int64, so that nobody gains by using a key as an index."""
    return (ranks.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).view(np.int64)


def write_rows(file: Path, key: Array, times: Array) -> Path:
    """Write entity rows with their places."""
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = {"key": key, "event_timestamp": pa.array(times, TIME), "row": np.arange(len(key))}
    pq.write_table(pa.table(columns), file)
    return file


def _zipf(n_keys: int) -> Callable[[np.random.Generator, int], Array]:
    shares = np.cumsum(1.0 / np.arange(1, n_keys + 1) ** 1.1)

    def keys(rng: np.random.Generator, n: int) -> Array:
        return np.searchsorted(shares, rng.random(n) * shares[-1]).clip(max=n_keys - 1)

    return keys


def _write_source(
    folder: Path,
    features: tuple[str, ...],
    n: int,
    n_keys: int,
    keys: Callable[[np.random.Generator, int], Array],
    span: int,
    rng: np.random.Generator,
) -> Events:
    folder.mkdir(parents=True)
    step = span // n
    first = rng.permutation(n_keys)
    n_files = min(max(n // ROWS_A_FILE, 1), MOST_FILES)
    edges = np.linspace(0, n, n_files + 1).astype(np.int64)
    for number, (start, stop) in enumerate(pairwise(edges)):
        places = np.arange(start, stop, dtype=np.int64)
        ranks = keys(rng, len(places))
        n_first = int(np.clip(n_keys - start, 0, len(places)))
        ranks[:n_first] = first[start : start + n_first]
        times = START + places * step
        known = times + np.where(rng.random(len(places)) < 0.1, rng.integers(0, 3 * DAY, len(places)), 0)
        arrival = np.argsort(known, kind="stable")
        columns: dict[str, Any] = {
            "key": key_ids(ranks)[arrival],
            "time": pa.array(times[arrival], TIME),
            "known": pa.array(known[arrival], TIME),
        }
        columns |= {name: rng.random(len(places)) * 100 for name in features}
        pq.write_table(
            pa.table(columns),
            folder / f"part-{number:03d}.parquet",
            use_dictionary=False,
            row_group_size=1 << 20,
        )
    return Events(folder.name, str(folder), features)


def _write_asked(
    folder: Path,
    n: int,
    n_rows: int,
    n_keys: int,
    keys: Callable[[np.random.Generator, int], Array],
    span: int,
    rng: np.random.Generator,
) -> Path:
    step = span // n
    places = n_keys + rng.permutation(n - n_keys)[:n_rows].astype(np.int64)
    # Half a step off the events' times: nobody asks at the time of an event.
    return write_rows(folder / "rows.parquet", key_ids(keys(rng, n_rows)), START + places * step + step // 2)
