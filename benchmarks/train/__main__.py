"""``make bench-train``: from Parquet shards to models, ours against its peers, one table from one run."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.results import Row, markdown, report
from benchmarks.train.boosted import boosted_rows, external_rows
from benchmarks.train.stepped import data_path_rows, network_rows, recovery_rows

SIZES = ((1_000_000, 50), (4_000_000, 30))
LARGE = (1_000_000, 20_000_000)


def main() -> None:
    """Run what was asked for, print the table and write the results."""
    given = _arguments()
    if given.markdown:
        print(markdown("train"))
        return
    with tempfile.TemporaryDirectory(prefix="bench-train-", dir=given.folder) as folder:
        rows = _rows(Path(folder), given)
    report("train-small" if given.small else "train", rows)
    if any(row.equal is False for row in rows):
        raise SystemExit("models differ in quality: those rows say nothing")
    if any(row.note.startswith("ours: ") for row in rows):
        raise SystemExit("ours did not finish everything: see the notes")


def _parts(scratch: Path, *, small: bool) -> dict[str, Callable[[], list[Row]]]:
    if small:
        return {
            "xgboost": lambda: boosted_rows(scratch, [(40_000, 12)], goals=False),
            "external": lambda: external_rows(scratch, (20_000, 40_000), 12, goals=False),
            "data": lambda: data_path_rows(scratch, small=True),
            "networks": lambda: network_rows(scratch, small=True),
            "recovery": lambda: recovery_rows(scratch, small=True),
        }
    return {
        "xgboost": lambda: boosted_rows(scratch, SIZES),
        "external": lambda: external_rows(scratch, LARGE),
        "data": lambda: data_path_rows(scratch),
        "networks": lambda: network_rows(scratch),
        "recovery": lambda: recovery_rows(scratch),
    }


def _rows(scratch: Path, given: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for name, part in _parts(scratch, small=given.small).items():
        if not given.parts or name in given.parts:
            print(name, file=sys.stderr, flush=True)
            rows += part()
    return rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-train ARGS=...", description=__doc__)
    parser.add_argument("parts", nargs="*", help="only these parts; all by default")
    parser.add_argument("--folder", help="where the data is made, instead of the system's temporary folder")
    parser.add_argument("--small", action="store_true", help="everything in seconds, for equality only")
    parser.add_argument("--markdown", action="store_true", help="print the last run's table, run nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
