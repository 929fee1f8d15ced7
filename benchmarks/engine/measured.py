"""Contestants in subprocesses: their time and memory, and an end to them where either goes too far."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median

import psutil

from benchmarks.engine.job import Job, Result
from benchmarks.engine.runner import READY, contestant

__all__ = ["measure", "run_here"]

EVERY = 0.1  # seconds between two looks at memory
ROOT = Path(__file__).parents[2]
GIB = 1 << 30
TO_START = 180  # seconds for imports, a cluster and the warm-up
MOST = 12 * GIB  # bytes that a contestant may take in all


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
        watch = _Watch(process, folder / READY, within)
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


class _Watch:
    """Looks at a process and its children until it ends, and ends it where it must."""

    def __init__(self, process: subprocess.Popen[bytes], ready: Path, within: float) -> None:
        self.process, self.ready, self.within = process, ready, within
        self.deadline, self.counting = time.monotonic() + TO_START, False
        self.most = min(MOST, int(psutil.virtual_memory().available * 0.7))
        self.peak = self.worker_rss = self.worker_uss = 0

    def until_the_end(self) -> str:
        try:
            while self.process.poll() is None:
                if not self.counting and self.ready.exists():
                    self.deadline, self.counting = time.monotonic() + self.within, True
                if time.monotonic() > self.deadline:
                    return "over time" if self.counting else f"not ready within {TO_START} s"
                if self._look() > self.most:
                    return f"killed at {self.most / GIB:.0f} GiB"
                time.sleep(EVERY)
        finally:
            self._end()
        return "failed" if self.process.returncode else "done"

    def _look(self) -> int:
        try:
            parent = psutil.Process(self.process.pid)
            children = parent.children(recursive=True)
            total = parent.memory_info().rss
        except psutil.NoSuchProcess:
            return 0
        for child in children:
            try:
                # A worker of Dask is a child of the process that watches over it.
                memory = child.memory_full_info()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            total += memory.rss
            self.worker_rss = max(self.worker_rss, memory.rss)
            self.worker_uss = max(self.worker_uss, memory.uss)
        self.peak = max(self.peak, total)
        return total

    def _end(self) -> None:
        # Its whole session: a contestant's workers must not outlive it and slow the next one down.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _in(job: Job, folder: Path) -> Job:
    return replace(job, scratch=str(folder))
