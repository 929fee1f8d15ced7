"""A pipeline whose driver, worker or scheduler is killed at twenty points: resumed, it leaves the same, registered once.

A point counts only if the run had not succeeded when it struck: one that comes too late is drawn again.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlflow_core.metadata.records import Run
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.workspace import Workspace
from tests.chaos.hosts import ROOT, Machines, free_port, kill, machines
from tests.metadata.conftest import new_database
from tests.servers.postgres import server
from tests.workflow.conftest import copied
from tests.workflow.projects import enlarge

pytestmark = [pytest.mark.chaos, pytest.mark.long]

HOST = "127.0.0.1"
STEPS = ("dataset", "train", "evaluate", "report", "busiest", "summary", "register")
VICTIMS = ("driver", "worker", "scheduler")
SEED, POINTS, WITHIN_S = 36, 20, 150.0
LATEST_S, DRAWS = 0.8, 6
ON_POSTGRES = 4  # every so manieth: five of twenty, and of each victim one at least
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


def points() -> list[tuple[Point, ...]]:
    """Twenty points, the same each time: every victim at every stage of the work.

    Behind each are those to take where it came too late, each within half the time.
    """
    drawn = random.Random(SEED)
    rounds = [
        [
            Point(VICTIMS[n % 3], drawn.choice(STEPS), round(drawn.uniform(0, LATEST_S / 2**again), 2))
            for n in range(POINTS)
        ]
        for again in range(DRAWS)
    ]
    return list(zip(*rounds, strict=True))


def cases() -> list[object]:
    """The points, some of them with the metadata on PostgreSQL."""
    found: list[object] = []
    for number, tries in enumerate(points()):
        kind = "postgresql" if number % ON_POSTGRES == ON_POSTGRES - 1 else "sqlite"
        first = tries[0]
        found.append(pytest.param(tries, kind, id=f"{first.victim}-{first.step}-{first.after_s}-{kind}"))
    return found


@dataclass
class Place:
    """A project and the cluster that it runs on."""

    workspace: Workspace
    cluster: Machines
    port: int
    workers: list[subprocess.Popen[bytes]]

    def start(self) -> None:
        self.cluster.scheduler(HOST, self.port)
        self.workers = [self.cluster.worker(f"tcp://{HOST}:{self.port}", HOST) for _ in range(2)]

    def mlcore(self, *words: str) -> subprocess.Popen[bytes]:
        return self.cluster.command(
            (), [sys.executable, "-m", "mlflow_core.cli", "--root", str(self.workspace.settings.root), *words]
        )

    def run(self) -> Run | None:
        """The run as it stands; None before there is one."""
        return next(iter(self.workspace.metadata.list_runs(limit=1)), None)

    def begun(self) -> set[str]:
        """The steps that have begun."""
        run = self.run()
        return set() if run is None else {one.name for one in self.workspace.metadata.list_steps(run.id)}

    def strike(self, point: Point, driver: subprocess.Popen[bytes]) -> bool:
        """Kill something once its time has come; whether the run had not succeeded by then."""
        began = time.monotonic()
        while point.step not in self.begun() and driver.poll() is None:
            assert time.monotonic() - began < WITHIN_S
            time.sleep(0.02)
        time.sleep(point.after_s)
        self.lose(point.victim, driver)
        run = self.run()
        return run is not None and run.state != "succeeded"

    def lose(self, victim: str, driver: subprocess.Popen[bytes]) -> None:
        """Kill something."""
        if victim == "driver":
            kill(driver)
        elif victim == "worker":
            kill(self.workers[0])
        else:
            scheduler = "distributed.cli.dask_scheduler"
            kill(next(one for one in reversed(self.cluster.started) if scheduler in one.args))

    def supervise(self, victim: str) -> None:
        """Start what a supervisor would start again."""
        if victim == "worker":
            self.workers[0] = self.cluster.worker(f"tcp://{HOST}:{self.port}", HOST)
        elif victim == "scheduler":
            for worker in self.workers:
                kill(worker)
            self.start()

    def left(self) -> tuple[dict[str, str], list[int], str]:
        """What the run left: by step its output, the versions of its model, and how it ended."""
        metadata, run = self.workspace.metadata, self.run()
        assert run is not None
        steps = metadata.list_steps(run.id)
        outputs = {one.name: one.output_digest or "" for one in steps if one.state == "succeeded"}
        if NAMES_ITS_RUN in outputs:
            outputs[NAMES_ITS_RUN] = self._without_run(outputs[NAMES_ITS_RUN], run.id)
        versions = [one.version for name in metadata.list_models() for one in metadata.list_versions(name)]
        return outputs, versions, run.state.value

    def _without_run(self, digest: str, run_id: str) -> str:
        """A digest of an output's files in which the run's id, which differs each time, is left out."""
        told, artifacts = hashlib.sha256(), self.workspace.artifacts
        for file in artifacts.files_of(digest):
            told.update(file.path.encode() + b"\0")
            told.update(artifacts.read_bytes(file.digest).replace(run_id.encode(), b"RUN") + b"\0")
        return told.hexdigest()


@contextmanager
def placed(folder: Path, url: str | None = None) -> Iterator[Place]:
    """A fresh project on a cluster of its own; its metadata is on SQLite, or where it is told."""
    project = enlarge(copied(ROOT, folder / "project"))
    port = free_port(HOST)
    settings = project / "mlcore.toml"
    metadata = "" if url is None else f'\n[metadata]\nurl = "{url}"\n'
    settings.write_text(f'{settings.read_text()}{metadata}\n[cluster]\naddress = "tcp://{HOST}:{port}"\n')
    workspace = open_workspace(project)
    try:
        with machines(folder / "machines") as cluster:
            place = Place(workspace, cluster, port, [])
            place.start()
            yield place
    finally:
        workspace.metadata.close()


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The address of a server."""
    with server() as address:
        yield address


@contextmanager
def database(kind: str, request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Where the metadata is; None is a project's own SQLite file."""
    if kind == "sqlite":
        yield None
        return
    with new_database(request.getfixturevalue("postgres"), "template0") as url:
        yield url


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """By step what a run leaves that nobody disturbs."""
    with placed(tmp_path_factory.mktemp("undisturbed")) as place:
        assert place.mlcore("train", "breakdown").wait(timeout=WITHIN_S) == 0, logs(place)
        outputs, versions, state = place.left()
    assert (set(outputs), versions, state) == (set(STEPS), [1], "succeeded")
    return outputs


def logs(place: Place) -> str:
    """The end of what the last command said."""
    return place.cluster._log(len(place.cluster.started) - 1).read_text()[-2000:]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("tries", "kind"), cases())
def test_whatever_is_killed_the_run_resumes_to_the_same_artifacts_and_one_version(
    tries: tuple[Point, ...],
    kind: str,
    undisturbed: dict[str, str],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    for number, point in enumerate(tries):
        with (
            database(kind, request) as url,
            placed(tmp_path / f"draw-{number}", url) as place,
        ):
            driver = place.mlcore("train", "breakdown")
            struck = place.strike(point, driver)
            print(f"seed {SEED}: {point} {'struck' if struck else 'came too late'}")
            if not struck:
                continue
            place.supervise(point.victim)
            code = driver.wait(timeout=WITHIN_S)
            for _ in range(3):
                if code == 0 or place.left()[2] == "succeeded":
                    break
                code = place.mlcore("runs", "resume", "latest").wait(timeout=WITHIN_S)
            outputs, versions, state = place.left()

            assert state == "succeeded", logs(place)
            assert outputs == undisturbed
            assert versions == [1]
            return
    pytest.fail(f"each of {DRAWS} points came after the run had ended, so that nothing was tested")
