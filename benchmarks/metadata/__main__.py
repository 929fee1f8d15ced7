"""``make bench-metadata``: one run written, and many listed, filtered and compared, by us and by MLflow, in one run."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.metadata.data import METRICS, PARAMS
from benchmarks.metadata.environment import MLFLOW, interpreter_of_mlflow
from benchmarks.metadata.side import DURABILITIES
from benchmarks.results import Row, markdown, report

STEPS = 50
WRITE_GOAL, ASK_GOAL, LARGER_GOAL = 20.0, 10.0, 1.0
WRITERS = ("ours", "of_mlflow", "of_sqlite")
LIMIT = "the limit: sqlite3 alone"
WAYS = {"told": "each step told, written within a second", "steps": "each step a call", "batch": "one batch"}
QUESTIONS = {
    "list": "the newest 100",
    "list of a pipeline": "the newest 100 of one of 20 pipelines",
    "filter": "100 by a metric and a param, by that metric",
    "compare": "two runs with the history of their metrics",
}
Answer = Mapping[str, Any]


def main() -> None:
    """Run both sides, print the table and write the results."""
    given = _arguments()
    if given.markdown:
        print(markdown("metadata"))
        return
    python = interpreter_of_mlflow()
    with tempfile.TemporaryDirectory(prefix="bench-metadata-", dir=given.folder) as scratch:
        sides = Sides(Path(scratch), python)
        many, larger = (200, 1_000) if given.small else (10_000, 100_000)
        rows = writing_rows(sides, written=5 if given.small else 20, rounds=1 if given.small else 3)
        rows += asking_rows(sides, many, larger, rounds=1 if given.small else 3)
    report("metadata-small" if given.small else "metadata", rows)
    if any(row.equal is False for row in rows):
        raise SystemExit("values differ: those rows say nothing")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-metadata ARGS=...", description=__doc__)
    parser.add_argument("--small", action="store_true", help="in seconds, for equality only")
    parser.add_argument("--folder", type=Path, help="where databases are made; the system's temporary folder")
    parser.add_argument("--markdown", action="store_true", help="print the last run's table as Markdown")
    return parser.parse_args()


class Sides:
    """Starts each side in a process of its own, one at a time.

    Args:
        scratch: Where databases and answers go.
        python: The interpreter that has MLflow.
    """

    def __init__(self, scratch: Path, python: Path) -> None:
        self._scratch = scratch
        ours = Path(sys.executable)
        self._python = {"ours": ours, "of_mlflow": python, "of_sqlite": ours}
        self._count = 0

    def ask(self, side: str, **asked: object) -> Answer:
        """Return what a side answers, from a database of its own that was not there before."""
        self._count += 1
        folder = self._scratch / f"{self._count}-{side}"
        folder.mkdir()
        answer = folder / "answer.json"
        command = [str(self._python[side]), "-m", f"benchmarks.metadata.{side}"]
        command += [json.dumps({**asked, "database": str(folder / "store.db")}), str(answer)]
        root = Path(__file__).parents[2]
        environ = {**os.environ, "PYTHONPATH": str(root)}
        done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{side} failed:\n{done.stderr}")
        found: Answer = json.loads(answer.read_text())
        (folder / "store.db").unlink()
        return found


def writing_rows(sides: Sides, *, written: int, rounds: int) -> list[Row]:
    """Compare the time that writing one run takes, with the same promises to the disk."""
    rows = []
    for durability, (journal, _, synchronous) in DURABILITIES.items():
        for way, called in WAYS.items():
            asked = {"do": "write", "way": way, "runs": written, "steps": STEPS, "durability": durability}
            # In turns, so that a neighbour of this machine slows both sides or neither.
            turns = [[sides.ask(side, **asked) for side in WRITERS] for _ in range(rounds)]
            case = f"one run, {PARAMS} params, {STEPS} x {METRICS} metrics, {called}, {journal} {synchronous}"
            rows.append(_row(case, "ms", [(ours, theirs) for ours, theirs, _ in turns], WRITE_GOAL, 1e3))
            limit = _row(case, "ms", [(ours, bare) for ours, _, bare in turns], None, 1e3, peer=LIMIT)
            least = median(theirs["seconds"] / bare["seconds"] for _, theirs, bare in turns)
            rows.append(replace(limit, note=f"MLflow's time over this one: {least:.1f}"))
    return rows


def asking_rows(sides: Sides, many: int, larger: int, *, rounds: int) -> list[Row]:
    """Compare the time of questions about many runs, and of ours about more against theirs about fewer."""
    asked = {"do": "ask", "runs": many, "steps": 3, "durability": "wal"}
    turns = [(sides.ask("ours", **asked), sides.ask("of_mlflow", **asked)) for _ in range(rounds)]
    at_larger = sides.ask("ours", **{**asked, "runs": larger})
    rows = []
    for name, what in QUESTIONS.items():
        answers = [(ours[name], theirs[name]) for ours, theirs in turns]
        rows.append(_row(f"{name} at {many:,} runs: {what}", "ms", answers, ASK_GOAL, 1e3))
        peer = median(theirs["seconds"] for _, theirs in answers) * 1e3
        mine = at_larger[name]["seconds"] * 1e3
        ratio = peer / mine
        note = "other runs, so nothing is to be equal"
        rows.append(
            Row(
                f"{name} at {larger:,} of ours, {many:,} of theirs",
                "ms",
                mine,
                MLFLOW,
                peer,
                ratio,
                LARGER_GOAL,
                ratio >= LARGER_GOAL,
                None,
                note,
            )
        )
    return rows


def _row(
    case: str,
    metric: str,
    turns: list[tuple[Answer, Answer]],
    goal: float | None,
    scale: float,
    peer: str = MLFLOW,
) -> Row:
    equal = all(ours["values"] == theirs["values"] for ours, theirs in turns)
    mine = median(ours["seconds"] for ours, _ in turns) * scale
    value = median(theirs["seconds"] for _, theirs in turns) * scale
    # A ratio of each turn: what a busy machine did to one turn stays in it.
    ratio = median(theirs["seconds"] / ours["seconds"] for ours, theirs in turns) if equal else None
    holds = None if ratio is None or goal is None else ratio >= goal
    return Row(case, metric, mine, peer, value, ratio, goal, holds, equal)


if __name__ == "__main__":
    main()
