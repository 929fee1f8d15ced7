"""A pipeline whose driver, worker or scheduler is killed at twenty points: resumed, it leaves the same, registered once."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlflow_core.workflow.project import open_workspace
from tests.chaos.hosts import ROOT, Machines, free_port, kill, machines
from tests.workflow.conftest import copied
from tests.workflow.projects import enlarge

pytestmark = [pytest.mark.chaos, pytest.mark.long]

HOST = "127.0.0.1"
STEPS = ("dataset", "train", "evaluate", "report", "busiest", "summary", "register")
SEED, POINTS, WITHIN_S = 36, 20, 150.0
NAMES_ITS_RUN = "report"


@dataclass(frozen=True)
class Point:
    """When something is killed.

    Attributes:
        victim: What.
        step: Once this step has begun.
        after_s: So many seconds later.
    """

    victim: str
    step: str
    after_s: float


def points() -> list[Point]:
    """Twenty points, the same each time: every victim at every stage of the work."""
    drawn = random.Random(SEED)
    return [
        Point(("driver", "worker", "scheduler")[n % 3], drawn.choice(STEPS), round(drawn.uniform(0, 0.8), 2))
        for n in range(POINTS)
    ]


@dataclass
class Place:
    """A project and the cluster that it runs on."""

    project: Path
    cluster: Machines
    port: int
    workers: list[subprocess.Popen[bytes]]

    def start(self) -> None:
        self.cluster.scheduler(HOST, self.port)
        self.workers = [self.cluster.worker(f"tcp://{HOST}:{self.port}", HOST) for _ in range(2)]

    def mlcore(self, *words: str) -> subprocess.Popen[bytes]:
        return self.cluster.command(
            (), [sys.executable, "-m", "mlflow_core.cli", "--root", str(self.project), *words]
        )

    def steps(self) -> dict[str, str]:
        """By step how its last attempt stands; nothing before the first run."""
        workspace = open_workspace(self.project)
        try:
            runs = workspace.metadata.list_runs(limit=1)
            return (
                {one.name: one.state.value for one in workspace.metadata.list_steps(runs[0].id)}
                if runs
                else {}
            )
        finally:
            workspace.metadata.close()

    def lose(self, victim: str, driver: subprocess.Popen[bytes]) -> None:
        """Kill something, and start what a supervisor would start again."""
        if victim == "driver":
            kill(driver)
        elif victim == "worker":
            kill(self.workers[0])
            self.workers[0] = self.cluster.worker(f"tcp://{HOST}:{self.port}", HOST)
        else:
            scheduler = "distributed.cli.dask_scheduler"
            kill(next(one for one in reversed(self.cluster.started) if scheduler in one.args))
            for worker in self.workers:
                kill(worker)
            self.start()


@contextmanager
def placed(folder: Path) -> Iterator[Place]:
    project = enlarge(copied(ROOT, folder / "project"))
    port = free_port(HOST)
    settings = project / "mlcore.toml"
    settings.write_text(f'{settings.read_text()}\n[cluster]\naddress = "tcp://{HOST}:{port}"\n')
    with machines(folder / "machines") as cluster:
        place = Place(project, cluster, port, [])
        place.start()
        yield place


def left(project: Path) -> tuple[dict[str, str], list[int], str]:
    """What the newest run left: by step its output, the versions of its model, and how it ended."""
    workspace = open_workspace(project)
    try:
        run = workspace.metadata.get_run("latest")
        steps = workspace.metadata.list_steps(run.id)
        outputs = {one.name: one.output_digest for one in steps if one.state == "succeeded"}
        models = workspace.metadata.list_models()
        versions = [one.version for name in models for one in workspace.metadata.list_versions(name)]
        return {**outputs, NAMES_ITS_RUN: ""}, versions, run.state.value
    finally:
        workspace.metadata.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """By step what a run leaves that nobody disturbs."""
    with placed(tmp_path_factory.mktemp("undisturbed")) as place:
        assert place.mlcore("train", "breakdown").wait(timeout=WITHIN_S) == 0, logs(place)
        outputs, versions, state = left(place.project)
    assert (set(outputs), versions, state) == (set(STEPS), [1], "succeeded")
    return outputs


def logs(place: Place) -> str:
    """The end of what the last command said."""
    return place.cluster._log(len(place.cluster.started) - 1).read_text()[-2000:]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", points(), ids=lambda one: f"{one.victim}-{one.step}-{one.after_s}")
def test_whatever_is_killed_the_run_resumes_to_the_same_artifacts_and_one_version(
    point: Point, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    print(f"seed {SEED}: {point}")
    with placed(tmp_path) as place:
        driver = place.mlcore("train", "breakdown")
        began = time.monotonic()
        while point.step not in place.steps() and driver.poll() is None:
            assert time.monotonic() - began < WITHIN_S
            time.sleep(0.1)
        time.sleep(point.after_s)
        place.lose(point.victim, driver)
        code = driver.wait(timeout=WITHIN_S)
        for _ in range(3):
            if code == 0 or left(place.project)[2] == "succeeded":
                break
            code = place.mlcore("runs", "resume", "latest").wait(timeout=WITHIN_S)
        outputs, versions, state = left(place.project)

        assert state == "succeeded", logs(place)
        assert outputs == undisturbed
        assert versions == [1]
