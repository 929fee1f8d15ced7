"""Why a run did what it did, long after: however many runs came before it, and however many since."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.config import Principal, SystemClock
from mlflow_core.metadata import MetadataStore
from mlflow_core.telemetry.progress import SilentProgress
from mlflow_core.workflow.graph import Graph, Node, NodeContext, Output
from mlflow_core.workflow.journal import Journal
from mlflow_core.workflow.keys import KeyParts, difference, written
from mlflow_core.workflow.runner import Runner
from mlflow_core.workflow.why import why


@pytest.fixture
def metadata(tmp_path: Path):
    store = MetadataStore(f"sqlite:///{tmp_path / 'm.sqlite'}", SystemClock(), Principal("ada"))
    yield store
    store.close()


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"))


def work(context: NodeContext) -> Output:
    return Output(context.artifacts.put_bytes(b"x").digest, "value")


def go(metadata: MetadataStore, artifacts: ArtifactStore, folder: Path, depth: int) -> str:
    """Run a pipeline of one step with a setting; the run's id."""
    run_id = metadata.create_run("p").id
    folder.mkdir(exist_ok=True)
    journal = Journal(metadata, artifacts, run_id, SilentProgress())
    with journal.whole() as hold:
        Runner(journal, hold, folder).run(
            Graph.of([Node("fit", (), KeyParts(params={"depth": depth}), work)])
        )
    return run_id


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at two earlier runs only, three runs at a time, so that six are many."""
    monkeypatch.setattr("mlflow_core.workflow.why._LOOKED_AT", 2)
    monkeypatch.setattr("mlflow_core.workflow.why._AT_ONCE", 3)


def test_an_old_run_is_compared_with_those_before_it_though_many_came_since(
    metadata: MetadataStore, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    runs = [go(metadata, artifacts, tmp_path / "d", depth) for depth in range(8)]

    (reason,) = why(metadata, artifacts, runs[1])

    assert (reason.found, reason.against, reason.describe()) == (False, runs[0], "params: depth 0 -> 1")
    assert why(metadata, artifacts, runs[0])[0].describe() == "the first attempt at this step"


def test_a_hit_names_the_run_that_made_the_output_though_many_found_it_since(
    metadata: MetadataStore, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    runs = [go(metadata, artifacts, tmp_path / "d", 1) for _ in range(8)]

    for run_id in runs[1:]:
        (reason,) = why(metadata, artifacts, run_id)
        assert (reason.found, reason.against) == (True, runs[0])
        assert reason.describe() == f"its output was made in run {runs[0]}"


@pytest.mark.parametrize(
    ("before", "after"),
    [("sha256:a", "sha256:a sha256:b"), ("sha256:a sha256:b", "sha256:a sha256:c")],
)
def test_files_that_were_written_again_unnoticed_are_told_as_such(before: str, after: str) -> None:
    was, now = (written(KeyParts(data={"readings": one}), {}) for one in (before, after))

    told = ["data: readings, whose files were touched or written again"]
    assert [one.describe() for one in difference(was, now)] == told
