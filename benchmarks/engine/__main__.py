"""``make bench-engine``: point-in-time retrieval, ours against its peers and against the limit, one table from one run."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.engine.hard import hard_rows
from benchmarks.engine.job import Job
from benchmarks.engine.latest import (
    SEED,
    SIZES,
    Seconds,
    Size,
    feast_dask_rows,
    in_process_rows,
    latest_rows,
    slope_rows,
    small_job,
)
from benchmarks.engine.small import small_rows
from benchmarks.engine.windows import GOAL, windows_rows
from benchmarks.results import Row, markdown, report

Part = tuple[str, Callable[[], list[Row]]]


def main() -> None:
    """Run what was asked for, print the table and write the results."""
    given = _arguments()
    if given.markdown:
        print(markdown("engine"))
        return
    with tempfile.TemporaryDirectory(prefix="bench-engine-", dir=given.folder) as scratch:
        rows = (
            small_rows(Path(scratch))
            if given.small
            else _all(Path(scratch), given.sizes.split(","), given.parts)
        )
    report("engine-small" if given.small else "engine", rows)
    if any(row.equal is False for row in rows):
        raise SystemExit("values differ on benign data: those rows say nothing")
    if any(row.note.startswith("ours: ") for row in rows):
        raise SystemExit("ours did not finish everything: see the notes")
    if any(row.ours for row in rows if row.metric == "wrong or lost"):
        raise SystemExit("our own values are wrong on hard data")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-engine ARGS=...", description=__doc__)
    parser.add_argument("--small", action="store_true", help="small sizes in seconds: equality, not speed")
    parser.add_argument(
        "--sizes", default="1M,10M,100M", help=f"source rows, of {', '.join(SIZES)}; all by default"
    )
    parser.add_argument("--parts", default="", help="only parts whose name holds this, e.g. windows")
    parser.add_argument("--folder", help="where to make the data (8 GB at 100M); the system's temporary one")
    parser.add_argument(
        "--markdown", action="store_true", help="print the last run's table as Markdown, run nothing"
    )
    return parser.parse_args()


def _all(scratch: Path, sizes: Sequence[str], only: str) -> list[Row]:
    """Run the parts one after the other; each makes its data and deletes it."""
    chosen = [SIZES[name] for name in sizes]
    small, spent = small_job(scratch), dict[str, dict[int, float]]()
    parts: list[Part] = [("hard", lambda: hard_rows(scratch / "hard", 1_000, seed=SEED))]
    if "1M" in sizes:
        parts.append(("in process", lambda: in_process_rows(scratch, small)))
        parts.append(("Feast Dask", lambda: feast_dask_rows(scratch, small)))
        parts.append(("windows 1M", lambda: windows_rows(scratch, 1_000_000, "1M/100k", within=60)))
    parts += [(f"latest {size.name}", _latest(scratch, size, small, spent)) for size in chosen]
    if "10M" in sizes:
        zipf = Size("10M/1M", 10_000_000, 1_000_000, ("polars", "DuckDB"), {}, 150)
        parts.append(("latest Zipf", lambda: latest_rows(scratch, zipf, small, spent, zipf=True)))
        parts.append(
            ("windows 10M", lambda: windows_rows(scratch, 10_000_000, "10M/1M", within=60, goal=GOAL))
        )
    rows: list[Row] = []
    for name, run in parts:
        if only in name:
            start = time.monotonic()
            print(name, file=sys.stderr)
            rows += run()
            print(f"  ({time.monotonic() - start:.0f} s)", file=sys.stderr)
    return rows + slope_rows(spent)


def _latest(scratch: Path, size: Size, small: Job, spent: Seconds) -> Callable[[], list[Row]]:
    return lambda: latest_rows(scratch, size, small, spent)


if __name__ == "__main__":
    main()
