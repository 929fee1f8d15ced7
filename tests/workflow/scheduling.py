"""A scheduler as a process, whose pipelines are small scripts that note when they start and how they end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow_core.cli.schedule import told_to_end
from mlflow_core.config import Principal, SystemClock
from mlflow_core.metadata import MetadataStore
from mlflow_core.workflow.schedule.child import Child, start_child
from mlflow_core.workflow.schedule.scheduler import Scheduler

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import os, sys, time
folder, name, seconds = sys.argv[1:]
try:
    with open(os.path.join(folder, "starts"), "a") as file:
        file.write(f"{name} {os.getpid()}\\n")
    time.sleep(float(seconds))
except KeyboardInterrupt:
    with open(os.path.join(folder, "interrupted"), "a") as file:
        file.write(f"{name}\\n")
    sys.exit(130)
print('{"error": {"message": "the source is empty"}}' if name.startswith("bad") else "done")
sys.exit(name.startswith("bad"))
"""


def now_us() -> int:
    """The time that it is."""
    return time.time_ns() // 1000


def scheduler(folder: Path, *, seconds: float = 0.0, lease_s: float = 60.0) -> Scheduler:
    """A scheduler of the database in a folder."""

    def start(pipeline: str) -> Child:
        words = [sys.executable, "-c", SCRIPT, str(folder), pipeline, str(seconds)]
        return start_child(words, folder / f"{pipeline}.log", folder=folder)

    url = f"sqlite:///{folder}/metadata.db"
    store = MetadataStore(url, SystemClock(), Principal("test"), project="shop")
    said = folder / f"said-{os.getpid()}"
    measured = folder / "measured"

    def say(line: str) -> None:
        with said.open("a") as file:
            file.write(f"{line}\n")

    def measure(told: Mapping[str, Any]) -> dict[str, Any]:
        from tests.workflow import retail  # with all that trains, which few schedulers need

        with measured.open("a") as file:
            file.write(f"{os.getpid()}\n")
        found = retail.measure(folder, told)
        while (folder / "hold").exists():
            time.sleep(0.02)
        return found

    return Scheduler(
        store, SystemClock(), start, f"test:{os.getpid()}", say, lease_s=lease_s, look_s=0.1, ends_within_s=5,
        base=str(folder / "retail"), measure=measure,
    )  # fmt: skip


def process(
    started: list[subprocess.Popen[bytes]],
    folder: Path,
    how: str,
    *,
    seconds: float = 0.0,
    lease_s: float = 60.0,
) -> subprocess.Popen[bytes]:
    """A scheduler in a process of its own, which is ready; it is ended with those that a test has started."""
    words = [sys.executable, "-m", "tests.workflow.scheduling", str(folder), how, str(seconds), str(lease_s)]
    made = subprocess.Popen(words, cwd=ROOT)
    started.append(made)
    wait_for(lambda: (folder / f"ready-{made.pid}").exists())
    return made


def wait_for(there: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something is there, or fail."""
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)


def starts(folder: Path) -> list[str]:
    """The pipelines that were started, in order."""
    file = folder / "starts"
    return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []


def main(folder: Path, how: str, seconds: float, lease_s: float) -> None:
    made = scheduler(folder, seconds=seconds, lease_s=lease_s)
    (folder / f"ready-{os.getpid()}").touch()
    while how == "once" and not (folder / "go").exists():
        threading.Event().wait(0.005)
    with told_to_end() as stopped:
        made.run(stopped, once=how == "once")
    made.metadata.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
