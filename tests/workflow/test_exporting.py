"""Exporting registered models by the command: as ONNX held to the rows of their own dataset, and as they are kept."""

from __future__ import annotations

import json

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from mlflow_core.cli.boundary import run
from mlflow_core.train.models.model import Model
from mlflow_core.train.models.onnx.scorer import OnnxScorer
from mlflow_core.workflow.dataset import open_dataset
from mlflow_core.workflow.training import run_pipeline


@pytest.fixture
def trained(workspace):
    """A run of the pipeline, which registered ``breakdown``."""
    return run_pipeline(workspace, "breakdown")


def export(root, *words):
    return run(["--root", str(root), "--json", "models", "export", *words])


def test_a_model_is_exported_as_onnx_after_it_was_compared_on_its_own_test_rows(
    machines, workspace, trained, tmp_path, capsys
):
    assert export(machines, "breakdown@candidate", "--to", str(tmp_path / "out")) == 0

    told = json.loads(capsys.readouterr().out)
    rows = open_dataset(trained.dataset.artifact, workspace.artifacts).data.read("test")
    assert (told["model"], told["version"], told["format"]) == ("breakdown", 1, "onnx")
    assert told["rows"] == rows.num_rows
    assert told["greatest_relative"] <= 1e-5
    version = workspace.metadata.resolve_model("breakdown")
    model = Model.load(workspace.artifacts.fetch_tree(version.artifact_digest, tmp_path / "model"))
    np.testing.assert_allclose(
        OnnxScorer.load(tmp_path / "out").predict(rows), model.predict(rows), rtol=1e-5
    )


def test_a_model_is_exported_as_it_is_kept(machines, workspace, trained, tmp_path, capsys):
    assert export(machines, "breakdown", "--to", str(tmp_path / "out"), "--format", "native") == 0

    assert json.loads(capsys.readouterr().out)["format"] == "native"
    assert Model.load(tmp_path / "out").metadata["dataset"] == trained.dataset.artifact.digest


def test_a_model_whose_dataset_is_gone_asks_for_rows_and_takes_them(
    machines, workspace, trained, tmp_path, capsys
):
    digest = trained.dataset.artifact.digest
    rows = open_dataset(trained.dataset.artifact, workspace.artifacts).data.read("validate").slice(0, 100)
    pq.write_table(rows, tmp_path / "rows.parquet")
    workspace.artifacts.delete_tree(digest)

    assert export(machines, "breakdown", "--to", str(tmp_path / "out")) == 1
    told = capsys.readouterr().err
    assert "the rows of its dataset 1 are gone" in told
    assert "--rows FILE" in told
    assert not (tmp_path / "out").exists()

    words = ("--rows", str(tmp_path / "rows.parquet"))
    assert export(machines, "breakdown", "--to", str(tmp_path / "out"), *words) == 0
    assert orjson.loads((tmp_path / "out" / "parity.json").read_bytes())["rows"] == rows.num_rows > 0


def test_rows_that_lack_a_feature_or_are_not_there_are_refused(machines, trained, tmp_path, capsys):
    rows = trained.dataset.data.read("test")
    pq.write_table(rows.drop_columns([trained.dataset.data.features[0]]), tmp_path / "rows.parquet")

    for name, said in (("rows.parquet", "there is no column"), ("none.parquet", "there is no such file")):
        words = ("--rows", str(tmp_path / name))
        assert export(machines, "breakdown", "--to", str(tmp_path / "out"), *words) == 1
        assert said in capsys.readouterr().err


def test_a_folder_that_is_there_and_an_unknown_format_or_model_are_refused(
    machines, trained, tmp_path, capsys
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years")

    for words, code, said in (
        (("breakdown", "--to", str(tmp_path / "out")), 2, "is there already"),
        (("breakdown", "--to", str(tmp_path / "new"), "--format", "onx"), 2, "Did you mean"),
        (("breakdwon", "--to", str(tmp_path / "new")), 2, "Did you mean"),
    ):
        assert export(machines, *words) == code
        assert said in capsys.readouterr().err
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years"
