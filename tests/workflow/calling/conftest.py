"""A project of steps that end in every way, and a place to call them from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.workflow.calling import ForkServer, StepCall, Stored

STEPS = '''import datetime as dt
import logging
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import mlflow_core as ml
import pyarrow as pa


@ml.step
def numbers(*, n: int = 3) -> pa.Table:
    return pa.table({"n": list(range(n))})


@ml.step
def total(numbers: pa.Table) -> int:
    return sum(numbers["n"].to_pylist())


@ml.step
def named(numbers: Path) -> list:
    return sorted(one.name for one in numbers.iterdir())


@ml.step
def letter(*, since: dt.date = dt.date(2013, 1, 1)) -> Path:
    Path("letter.txt").write_text(f"since {since.year}")
    return Path("letter.txt")


@ml.step
def reads(letter: Path) -> str:
    text = letter.read_text()
    letter.write_text("mine to change")
    return f"{letter.name}: {text}"


@ml.step
def folder() -> Path:
    Path("out/deep").mkdir(parents=True)
    Path("out/deep/a.txt").write_text("a")
    return Path("out")


@ml.step
def chance() -> list:
    return [random.random(), *{"a", "b", "c", "d"}]


@ml.step
def seeded(*, seed: int) -> int:
    return seed


@ml.step
def speaks() -> None:
    print("printed")
    logging.getLogger("mine").info("logged")
    subprocess.run(["echo", "by a child"], check=True)
    print("half", end="")


@ml.step
def floods(*, lines: int) -> None:
    for number in range(lines):
        print(f"line {number}")


@ml.step
def floods_for_ever() -> None:
    subprocess.Popen(["yes", "a background that says so"])
    while True:
        print("ä" * 1001)


@ml.step
def helped() -> list:
    with ProcessPoolExecutor(2) as pool:
        return sorted(pool.map(abs, [-1, 2, -3]))


@ml.step
def quiet() -> int:
    sys.stdout.close()
    os.close(1)
    return 1


@ml.step
def raises() -> int:
    return _deeper({})


def _deeper(values: dict) -> int:
    return values["missing"]


@ml.step
def hangs_up() -> str:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        os.write(writing, b"to nobody")
    except BrokenPipeError:
        return "nobody listens"
    return "written"


@ml.step
def holds_nothing() -> pa.Table:
    return pa.Table.from_pylist([{"empty": {}}])


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not this either")


@ml.step
def raises_oddly(*, how: str) -> int:
    if how == "mute":
        sys.stderr.close()
        raise ValueError("unheard")
    if how == "unspeakable":
        raise Unspeakable
    raise ValueError("\\udcff of a file's name" if how == "no text" else "x" * 1_000_000)


@ml.step
def leaves() -> int:
    sys.exit("enough")


@ml.step
def promises_a_table() -> pa.Table:
    return {"n": [1]}


@ml.step
def promises_whole_numbers() -> int:
    return True


@ml.step
def no_json() -> dict:
    return {"deep": [{"at": object()}]}


@ml.step
def no_number() -> list:
    return [1.0, float("nan")]


@ml.step
def itself() -> list:
    found: list = []
    found.append(found)
    return found


@ml.step
def nowhere() -> Path:
    return Path("not-there")


@ml.step
def faults() -> int:
    os.kill(os.getpid(), signal.SIGSEGV)
    return 1


@ml.step
def is_killed() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


@ml.step
def exits() -> int:
    os._exit(7)


@ml.step
def grows() -> int:
    held = [bytearray(os.urandom(1 << 20) * 16) for _ in range(200) if not time.sleep(0.02)]
    return len(held)


@ml.step
def cannot_have() -> int:
    return len(bytearray(1 << 60))


@ml.step
def stays(*, at: str, seconds: float = 600.0) -> int:
    """Ignores TERM, and so do a child and a grandchild that has left the group."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"], preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    gone = subprocess.Popen(
        [sys.executable, "-c", "import os, time; os.fork() and os._exit(0); print(os.getpid(), flush=True); time.sleep(600)"],
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    grandchild = gone.stdout.readline().strip()
    Path(at).write_text(f"{os.getpid()} {child.pid} {grandchild}")
    time.sleep(seconds)
    return 1


@ml.step
def ends_well(*, at: str, seconds: float = 2.0) -> int:
    Path(at).write_text(str(os.getpid()))
    time.sleep(seconds)
    return 7


@ml.step
def waits(*, at: str) -> int:
    while not Path(at).exists():
        time.sleep(0.05)
    return 7


@ml.step
def leaves_one_behind(*, at: str) -> int:
    left = subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path(at).write_text(str(left.pid))
    return 1


@ml.step
def where() -> str:
    return os.getcwd()


@ml.step
def version() -> int:
    return 1
'''


@dataclass(frozen=True)
class Steps:
    """The project, and calls of its steps."""

    root: Path
    store: ArtifactStore

    def call(self, name: str, /, module: str = "jobs.steps", **params: object) -> StepCall:
        return StepCall(
            name, f"{module}:{name}", self.store.location, params=params, project=(str(self.root),)
        )

    def reading(self, name: str, **outputs: object) -> StepCall:
        given = {parameter: Stored(one.digest, one.kind) for parameter, one in outputs.items()}
        return replace(self.call(name), arguments=given)


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    root = tmp_path / "project"
    (root / "jobs").mkdir(parents=True)
    (root / "jobs" / "steps.py").write_text(STEPS)
    return Steps(root, ArtifactStore(str(tmp_path / "store")))


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as server:
        yield server
