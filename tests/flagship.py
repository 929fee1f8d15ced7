"""The flagship's project, copied where a test may write, on all of the real flights or on those of some weeks."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlflow_core.config.times import parse_time

Days = tuple[str, str]
"""A day and the one that no longer counts."""


def prepare(repository: Path, folder: Path) -> bool:
    """Prepare the files by the flagship's own module; whether there was anything to do."""
    file = repository / "feature_repo" / "prepare_data.py"
    spec = importlib.util.spec_from_file_location("prepare_flights", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return bool(module.prepare(folder))


def copied(repository: Path, prepared: Path, root: Path, *weeks: Days) -> Path:
    """Copy the declarations, and of the prepared files the flights of some weeks; all of them where none are given."""
    for name in ("feature_repo", "pipelines"):
        shutil.copytree(repository / name, root / name, ignore=shutil.ignore_patterns("data", "__pycache__"))
    shutil.copy(repository / "mlcore.toml", root)
    data = root / "feature_repo" / "data"
    shutil.copytree(prepared, data, ignore=shutil.ignore_patterns("prepared.txt"))
    if weeks:
        flights = pq.read_table(prepared / "flights.parquet")
        pq.write_table(
            flights.filter(_within(flights["scheduled_departure"], weeks)), data / "flights.parquet"
        )
    return root


def _within(times: pa.ChunkedArray, weeks: tuple[Days, ...]) -> pa.ChunkedArray:
    at = times.cast(pa.int64())
    found = pc.less(at, 0)
    for first, last in weeks:
        inside = pc.and_(pc.greater_equal(at, parse_time(first)), pc.less(at, parse_time(last)))
        found = pc.or_(found, inside)
    return found
