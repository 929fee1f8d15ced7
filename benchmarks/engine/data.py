"""Made events and entity rows: benign ones on which every peer must agree, and hard ones with ties and expiry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import mlflow_core as ml

__all__ = ["Case", "benign", "hard"]

TIME = pa.timestamp("us", tz="UTC")
START = 1_704_067_200_000_000  # 2024-01-01
SPAN = 30 * 86_400_000_000


@dataclass(frozen=True)
class Case:
    """Events in a Parquet file, and entity rows that ask about them."""

    folder: Path
    events: pa.Table
    rows: pa.Table

    @property
    def file(self) -> Path:
        """The events' file."""
        return self.folder / "events.parquet"

    def source(self) -> ml.ParquetSource:
        """The events as a source."""
        return ml.ParquetSource("events", path=str(self.file), event_time="happened", created="created")


def benign(folder: Path, n_events: int, n_rows: int, n_keys: int, *, seed: int) -> Case:
    """Events and entity rows with distinct times and nothing late, so that there is one right answer for everybody."""
    rng = np.random.default_rng(seed)
    step = SPAN // n_events
    times = START + np.arange(n_events, dtype=np.int64) * step
    # Half a step off the events' own times, and no time twice: the question has no ties either.
    asked = rng.permutation(times)[:n_rows] + step // 2
    return _written(
        folder, rng.integers(0, n_keys, n_events), times, times, asked, rng.integers(0, n_keys, n_rows), rng
    )


def hard(folder: Path, n_events: int, n_rows: int, n_keys: int, *, seed: int) -> Case:
    """Events of which many share a time and differ in when they were created."""
    rng = np.random.default_rng(seed)
    times = START + rng.integers(0, 200, n_events) * (SPAN // 200)
    created = times + rng.integers(0, 10_000_000, n_events)
    asked = START + rng.integers(0, SPAN, n_rows)
    return _written(
        folder, rng.integers(0, n_keys, n_events), times, created, asked, rng.integers(0, n_keys, n_rows), rng
    )


def _written(
    folder: Path,
    key: np.ndarray,
    times: np.ndarray,
    created: np.ndarray,
    asked: np.ndarray,
    asked_key: np.ndarray,
    rng: np.random.Generator,
) -> Case:
    folder.mkdir(parents=True, exist_ok=True)
    events = pa.table(
        {
            "key": pa.array(key, pa.int64()),
            "happened": pa.array(times, TIME),
            "created": pa.array(created, TIME),
            "value": pa.array(np.round(rng.normal(100.0, 25.0, len(key)), 6)),
        }
    )
    case = Case(
        folder, events, pa.table({"key": pa.array(asked_key), "event_timestamp": pa.array(asked, TIME)})
    )
    pq.write_table(events, case.file)
    return case
