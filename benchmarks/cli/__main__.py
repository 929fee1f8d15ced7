"""``make bench-cli``: how long ``mlcore --help`` and its like take from a cold process, beside the limit and the peers' commands."""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import Row, markdown, report

LIMIT_S = 0.35
PEERS = ("feast", "mlflow", "kedro", "zenml", "dvc", "prefect")
SCRIPTS = Path(sys.executable).parent


@dataclass(frozen=True)
class Start:
    """One way to start a process.

    Attributes:
        case: What it is called in the table.
        words: The command line.
        limit: Seconds that it may take, or None.
    """

    case: str
    words: tuple[str, ...]
    limit: float | None = None


def starts() -> tuple[Start, ...]:
    """Return what of ours is started: an empty interpreter first, which is the least that anything can take."""
    mlcore = str(SCRIPTS / "mlcore")
    return (
        Start("python -c pass", (sys.executable, "-c", "pass")),
        Start("mlcore --help", (mlcore, "--help"), LIMIT_S),
        Start("mlcore runs compare --help", (mlcore, "runs", "compare", "--help"), LIMIT_S),
        Start("mlcore no-such-verb", (mlcore, "no-such-verb"), LIMIT_S),
        Start("mlcore runs list, an empty project", (mlcore, "runs", "list")),
    )


def seconds_of(words: Sequence[str], folder: Path, runs: int) -> float:
    """Return the median wall time of some runs after one that is not counted."""
    taken = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        subprocess.run(words, cwd=folder, capture_output=True, check=False, timeout=120)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def rows_of(folder: Path, runs: int, *, goals: bool = True) -> list[Row]:
    """Measure ours, and each peer's help where the peer is installed."""
    ours = {start: seconds_of(start.words, folder, runs) for start in starts()}
    rows = [
        _row(start.case, taken, "the limit", start.limit, goal=1.0 if goals and start.limit else None)
        for start, taken in ours.items()
    ]
    helped = next(taken for start, taken in ours.items() if start.case == "mlcore --help")
    for peer in PEERS:
        found = shutil.which(peer, path=f"{SCRIPTS}") or shutil.which(peer)
        taken = None if found is None else seconds_of((found, "--help"), folder, runs)
        note = "" if found else f"{peer} is not installed here"
        rows.append(_row("--help", helped, f"{peer} --help", taken, note=note))
    return rows


def _row(
    case: str, ours: float, peer: str, theirs: float | None, *, goal: float | None = None, note: str = ""
) -> Row:
    ratio = None if theirs is None else theirs / ours
    holds = None if goal is None or ratio is None else ratio >= goal
    return Row(case, "seconds", ours, peer, theirs, ratio, goal, holds, None, note)


def main() -> None:
    """Measure, print the table and write the results."""
    parser = argparse.ArgumentParser(prog="make bench-cli", description=__doc__)
    parser.add_argument("--runs", type=int, default=11, help="runs of each, after one that is not counted")
    parser.add_argument("--markdown", action="store_true", help="only print the last results")
    given = parser.parse_args()
    if given.markdown:
        print(markdown("cli"))
        return
    with tempfile.TemporaryDirectory(prefix="bench-cli-") as folder:
        rows = rows_of(Path(folder), given.runs)
    report("cli", rows)
    if any(row.holds is False for row in rows):
        raise SystemExit("a command takes longer than its limit")


if __name__ == "__main__":
    main()
