"""Functions of a project on workers that were started without it: found, found anew when edited, and never mistaken."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.buckets.sharded import _Elsewhere
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.engine.cluster.project_code import ProjectCode, _Folder, _folder_of
from mlflow_core.engine.retrieve import retrieve_to_shards
from mlflow_core.engine.route import OnDask
from mlflow_core.errors import PlanError
from mlflow_core.plan.load import load_project
from mlflow_core.plan.retrieval import plan_retrieval
from tests.chaos.greedy import greedy
from tests.chaos.hosts import ROOT, Machines, free_port, kill, machines

HOST = "127.0.0.1"
MOMENTS = pa.array([1, 2], pa.int64()).cast(pa.timestamp("us", "UTC"))
FUNCTIONS = """
import mlflow_core as ml
import pyarrow as pa
import pyarrow.compute as pc
from winds.places import FACTOR

@ml.transform
def in_knots(batch):
    return batch.append_column("knots", pc.multiply(batch["x"], pa.scalar(FACTOR, pa.float64())))

source = ml.ParquetSource("readings", path="readings.parquet", event_time="t", transform=in_knots)
view = ml.FeatureView("speed", entity=ml.Entity("k"), source=source, features=["knots"])

@ml.on_demand(inputs=[view], outputs={"more": float})
def faster(x):
    return {"more": x["knots"] + ADDED}

ADDED = 0.5
service = ml.FeatureService("speeds", [view, faster])
"""


@pytest.fixture
def as_before() -> Iterator[None]:
    """Projects that a test loads are forgotten after it."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def project(tmp_path: Path, as_before: None) -> Path:
    """A project's folder, which no process knows."""
    package = tmp_path / "project" / "winds"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "places.py").write_text("FACTOR = 2.0\n")
    (package / "features.py").write_text(FUNCTIONS)
    pq.write_table(pa.table({"k": [1, 2], "t": MOMENTS, "x": [1.0, 2.0]}), package / "readings.parquet")
    return package.parent


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Machines, str]]:
    """A scheduler and a worker, processes of their own that were started before any project was loaded."""
    with machines(tmp_path / "machines") as started:
        port = free_port(HOST)
        started.scheduler(HOST, port)
        started.worker(f"tcp://{HOST}:{port}", HOST)
        yield started, f"tcp://{HOST}:{port}"


@pytest.fixture
def asked(project: Path, tmp_path: Path, running: tuple[Machines, str]) -> Iterator[Callable[[], Any]]:
    """Load the project as it is now, and retrieve on the workers."""
    with open_cluster(ClusterSettings(address=running[1])) as client:

        def ask() -> dict[str, Any]:
            client.wait_for_workers(1, timeout=60)
            loaded = load_project(project, name="winds", feature_repo="winds")
            shards = retrieve_to_shards(
                plan_retrieval(loaded.services["speeds"]),
                pa.table({"k": [1, 2], "event_timestamp": MOMENTS}),
                base=str(loaded.repo),
                out=tmp_path / "out",
                route=OnDask(client, tmp_path / "work", buckets=2),
            )
            found: dict[str, Any] = pq.read_table(shards[0]).select(["knots", "more"]).to_pydict()
            return found

        yield ask


def test_workers_started_before_the_project_was_loaded_and_those_that_join_later_find_its_functions(
    asked, running
):
    started, address = running

    assert asked() == {"knots": [2.0, 4.0], "more": [2.5, 4.5]}

    first = started.started[-1]
    started.worker(address, HOST)
    kill(first)
    assert asked() == {"knots": [2.0, 4.0], "more": [2.5, 4.5]}


def test_what_is_edited_between_two_retrievals_is_computed_by_the_edited_code(asked, project):
    assert asked() == {"knots": [2.0, 4.0], "more": [2.5, 4.5]}

    features = project / "winds" / "features.py"
    features.write_text(FUNCTIONS.replace("ADDED = 0.5", "ADDED = 1.5"))
    assert asked() == {"knots": [2.0, 4.0], "more": [3.5, 5.5]}

    (project / "winds" / "places.py").write_text("FACTOR = 3.0\n")
    assert asked() == {"knots": [3.0, 6.0], "more": [4.5, 7.5]}
    assert not list(project.rglob("*.pyc"))


def test_a_worker_that_finds_other_code_is_an_error_and_no_other_value():
    """As where each machine has a copy of the project of its own."""
    sent = _Elsewhere(greedy.import_path, "0" * 64)

    with pytest.raises(PlanError, match=r"greedy.* finds other code than the process that asked"):
        _Elsewhere.here(greedy.model_copy(update={"function": sent}))


def test_a_folder_that_a_worker_does_not_see_is_left_out(tmp_path, as_before):
    before = [entry for entry in sys.path if not isinstance(entry, _Folder)]

    ProjectCode([str(tmp_path / "nowhere")], []).setup(None)

    assert sys.path == before


def test_what_is_installed_is_left_alone_and_a_module_s_folder_is_the_one_that_it_is_imported_from():
    assert list(_folder_of("pyarrow.compute")) == []
    assert list(_folder_of("mlflow_core.spec")) == []
    assert list(_folder_of("functools")) == [], "as a partial of a function says that it is from there"
    assert list(_folder_of(__name__)) == [str(ROOT)]
