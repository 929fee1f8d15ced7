"""An artifact store that is no folder of this machine: everything that reads rows or models works on copies."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest

from mlflow_core.cli.boundary import run
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.training import run_pipeline

# One that lives in this process stands for buckets: neither has paths.
PLACE = "memory://artifacts-of-a-test"


@pytest.fixture
def elsewhere(machines: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLCORE_ARTIFACTS_LOCATION", PLACE)
    yield machines
    fsspec.filesystem("memory").rm(PLACE, recursive=True)


def test_a_pipeline_is_trained_found_again_reproduced_and_used(
    elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def mlcore(*words: str) -> dict:
        assert run(["--root", str(elsewhere), "--json", *words]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    first = mlcore("train", "breakdown", "--in-process")
    again = mlcore("train", "breakdown", "--in-process")

    assert not (elsewhere / ".mlcore" / "artifacts").exists()
    assert set(again["found"]) >= {"dataset", "train", "evaluate"}
    assert again["version"] == first["version"]
    assert mlcore("runs", "reproduce", first["run"], "--in-process")["same"]
    exported = mlcore("dataset", "export", "breakdown", "--to", str(tmp_path / "rows"))
    assert {Path(name).name for name in exported["files"]} == {f"{part}.parquet" for part in first["rows"]}
    assert pq.read_table(tmp_path / "rows" / "train.parquet").num_rows == first["rows"]["train"]
    mlcore("models", "export", "breakdown", "--to", str(tmp_path / "model"), "--format", "native")
    assert [one.name for one in (elsewhere / ".mlcore" / "work").iterdir()] == [], "no copy stays"


def test_copies_of_a_training_set_go_with_the_object(elsewhere: Path) -> None:
    workspace = open_workspace(elsewhere)
    dataset = run_pipeline(workspace, "breakdown").dataset
    copy = dataset.data.files("train")[0]

    rows = dataset.data.read("train").num_rows

    assert rows == dataset.manifest["rows"]["train"]
    assert copy.is_file()
    del dataset
    assert not copy.exists()
    workspace.metadata.close()
