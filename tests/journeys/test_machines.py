"""The example of the machines, as its README says it: from readings to a registered model and an online request."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from mlflow_core.cli.boundary import run


@pytest.fixture
def root(repository, tmp_path):
    """A fresh copy of the example with its readings made by its own script."""
    target = tmp_path / "machines"
    ignored = shutil.ignore_patterns("data", ".mlcore", "__pycache__")
    shutil.copytree(repository / "examples" / "machines", target, ignore=ignored)
    subprocess.run([sys.executable, "generate.py"], cwd=target, check=True)
    return target


@pytest.fixture
def mlcore(root, capsys):
    """Run a command in the example; returns its exit code, what it printed and what it complained of."""

    def call(*words):
        capsys.readouterr()
        code = run(["--root", str(root), *words])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def test_a_newcomer_walks_from_readings_to_a_prediction(mlcore):
    assert mlcore("apply")[0] == 0

    code, plan, _ = mlcore("dataset", "build", "breakdown", "--explain")
    assert code == 0
    assert "label    breaks = max of broke of readings in the 3d after" in plan

    code, told, _ = mlcore("dataset", "build", "breakdown")
    assert code == 0
    assert "label_open" in told, "rows whose three days are not over are counted"

    code, text, _ = mlcore("--json", "train", "breakdown", "--in-process")
    trained = json.loads(text)
    assert code == 0
    assert (trained["model"], trained["version"], trained["alias"]) == ("breakdown", 1, "candidate")

    code, text, _ = mlcore("--json", "runs", "show", "latest")
    shown = json.loads(text)
    assert (shown["id"], shown["state"]) == (trained["run"], "succeeded")
    assert [step["name"] for step in shown["steps"]] == ["dataset", "train", "evaluate", "report", "register"]

    code, told, _ = mlcore(
        "models", "promote", "breakdown@candidate", "--to", "champion", "--why", "good enough"
    )
    assert code == 0
    assert "moved to version 1" in told
    assert "good enough" in mlcore("models", "history", "breakdown")[1]
    assert "breakdown:1  candidate, champion" in mlcore("models", "show", "breakdown@champion")[1]

    at = "2024-03-20T00:05Z"
    assert mlcore("materialize", "--to", "2024-03-20T00:00Z", "--clock", at)[0] == 0
    code, text, _ = mlcore("--json", "features", "get", "machine_health", "--at", at, "machine=m3")
    assert code == 0
    assert "breakdowns_14d" in text
    code, text, _ = mlcore("--json", "predict", "breakdown", "--at", at, "machine=m3")
    assert code == 0
    assert 0.0 < json.loads(text)["prediction"] < 1.0


def test_a_gate_that_fails_ends_with_its_own_exit_code(root, mlcore):
    pipeline = root / "training" / "breakdown.py"
    pipeline.write_text(
        pipeline.read_text().replace(
            "baselines=[", 'gate=ml.Gate(metric="auc", at_least={"auc": 0.9999}),\n    baselines=['
        )
    )

    code, out, err = mlcore("train", "breakdown", "--in-process")

    assert (code, out) == (3, "")
    assert "asked for at least 0.9999" in err
    assert json.loads(mlcore("--json", "runs", "list")[1])[0]["state"] == "failed"
    assert mlcore("models", "list")[1].count("breakdown") == 0


def test_misspelt_pipelines_clocks_and_runs_are_answered_with_the_nearest(mlcore):
    code, _, err = mlcore("train", "breakdwn", "--in-process")
    assert code == 2
    assert 'Did you mean "breakdown"' in err

    code, _, err = mlcore("dataset", "build", "breakdown", "--clock", "serve")
    assert code == 2
    assert 'Did you mean "served"' in err

    code, _, err = mlcore("dataset", "show", "breakdown")
    assert code == 2
    assert "there is no dataset" in err


def test_a_source_that_went_missing_is_named_and_what_was_built_before_stays(root, mlcore):
    assert mlcore("dataset", "build", "breakdown")[0] == 0
    readings = root / "machines" / "data" / "readings.parquet"
    readings.rename(readings.with_suffix(".gone"))

    code, _, err = mlcore("train", "breakdown", "--in-process")

    assert code != 0
    assert "readings" in err
    assert "Traceback" not in err
    assert "breakdown" in mlcore("dataset", "show")[1]


def test_a_pipelines_dataset_is_the_newest_of_its_own_clock_unless_another_is_asked_for(root, mlcore):
    def clock_of(*words):
        code, text, err = mlcore("--json", "dataset", "show", *words)
        assert code == 0, err
        return json.loads(text)["clock"]

    assert mlcore("dataset", "build", "breakdown", "--clock", "event")[0] == 0
    code, _, err = mlcore("dataset", "show", "breakdown")
    assert code == 2
    assert 'under the clock "served"' in err
    assert "There is one under: event." in err

    assert mlcore("dataset", "build", "breakdown")[0] == 0
    assert mlcore("dataset", "build", "breakdown", "--clock", "known")[0] == 0
    assert clock_of("breakdown") == "served"
    assert clock_of("breakdown", "--clock", "known") == "known"
    assert clock_of("1") == "event"
    listed = json.loads(mlcore("--json", "dataset", "show", "--clock", "event")[1])
    assert [one["id"] for one in listed] == [1]

    (root / "training" / "breakdown.py").unlink()
    assert clock_of("breakdown") == "known", "of what is declared no more, the newest"
