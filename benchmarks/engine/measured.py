"""Contestants in subprocesses: their time and memory, and an end to them where either goes too far."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.engine.job import Job, Result
from benchmarks.engine.runner import READY, TOUCHING, contestant
from benchmarks.watch import GIB, Watch

__all__ = ["measure", "run_here"]

ROOT = Path(__file__).parents[2]


def measure(
    name: str,
    job: Job,
    *,
    small: Job | None = None,
    phases: Sequence[str] = ("cold",),
    runs: int = 3,
    seconds: float = 10.0,
    within: float = 120.0,
) -> Result:
    """Let a contestant do a job.

    Args:
        name: One of ``runner.CONTESTANTS``.
        job: The job.
        small: A job to warm up with: compiling and first connections.
        phases: ``cold`` runs, then ``warm`` ones.
        runs: How often each phase is run at most.
        seconds: How long a phase goes on starting runs.
        within: Seconds after which it is ended, from the end of the warm-up, for which there is a time-out of its own.
    """
    print(f"  {name} ({job.clock}) ...", end="", file=sys.stderr, flush=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=job.scratch))
    out, order, answer, log = (folder / name for name in ("out", "order.json", "answer.json", "log.txt"))
    order.write_text(
        json.dumps(
            {
                "job": _in(job, folder).to_json(),
                "small": small and _in(small, folder).to_json(),
                "phases": list(phases),
                "runs": runs,
                "seconds": seconds,
                "out": str(out),
            }
        )
    )
    with log.open("wb") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.engine.runner", name, str(order)],
            cwd=ROOT,
            stdout=told,
            stderr=told,
            start_new_session=True,
        )
        watch = Watch(process, folder / READY, within, pause=folder / TOUCHING)
        outcome = watch.until_the_end()
    taken = json.loads(answer.read_text()) if answer.exists() else {}
    if outcome == "over time" and set(taken) == set(phases):
        outcome = "done"  # only a repetition was cut short
    if outcome == "failed":
        said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        outcome = f"failed: {said[-1] if said else 'without a word'}"
    if outcome == "over time":
        outcome = f"> {within:.0f} s"
    result = Result(
        outcome,
        {phase: median(times) for phase, times in taken.items()},
        watch.peak,
        watch.worker_rss,
        watch.worker_uss,
        out,
        within,
    )
    print(f" {outcome} {result.seconds} {result.peak / GIB:.2f} GiB", file=sys.stderr, flush=True)
    return result


def run_here(name: str, jobs: Sequence[Job]) -> list[Result]:
    """Let a contestant do small jobs in this process, where starting one would take longer than the job.

    Args:
        name: One of ``runner.CONTESTANTS``.
        jobs: The jobs.
    """
    results = []
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=jobs[0].scratch))
    with contestant(name)(replace(jobs[0], scratch=str(folder))) as ready:
        for number, job in enumerate(jobs):
            inner = folder / str(number)
            out = inner / "out"
            (out / "cold").mkdir(parents=True)
            call = ready(replace(job, scratch=str(inner)))
            start = time.perf_counter()
            call(out / "cold", inner / "cache")
            results.append(Result("done", {"cold": time.perf_counter() - start}, 0, 0, 0, out))
    return results


def _in(job: Job, folder: Path) -> Job:
    return replace(job, scratch=str(folder))
