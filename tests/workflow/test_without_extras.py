"""Training on an installation without the extras: what is needed is asked for first, the rest is left out."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_RUN = """\
import sys
sys.modules.update(dict.fromkeys({missing!r}))  # None there makes every import of it fail
from mlflow_core.cli import main
main({words!r})
"""


@pytest.fixture
def mlcore(repository, machines):
    """Run a command in a process in which some packages cannot be imported."""

    def call(*words, missing=()):
        code = _RUN.format(missing=tuple(missing), words=["--root", str(machines), *words])
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=repository,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return call


def declare(machines, *changes):
    pipeline = machines / "training" / "breakdown.py"
    text = pipeline.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    pipeline.write_text(text)


def test_a_baseline_without_its_library_is_refused_before_anything_is_computed(machines, mlcore):
    declare(machines, ("ml.Rate()", 'ml.Rate(), ml.LogisticRegression(columns=["temperature"])'))

    refused = mlcore("train", "breakdown", "--in-process", missing=["sklearn"])

    assert (refused.returncode, refused.stdout) == (1, "")
    assert 'pip install "mlflow-core[sklearn]"' in refused.stderr
    assert "Traceback" not in refused.stderr
    assert json.loads(mlcore("--json", "runs", "list").stdout) == []
    assert json.loads(mlcore("--json", "dataset", "show").stdout) == []


def test_without_matplotlib_and_scikit_learn_a_model_is_evaluated_judged_and_registered(machines, mlcore):
    declare(machines, ("baselines=[", 'gate=ml.Gate(metric="auc", at_least={"auc": 0.55}),\n    baselines=['))

    trained = mlcore("train", "breakdown", "--in-process", missing=["matplotlib", "sklearn"])

    assert trained.returncode == 0, trained.stderr
    warnings = [line for line in trained.stderr.splitlines() if line.startswith("warning: ")]
    assert [line for line in warnings if "no plots" in line] == [
        "warning: the report has no plots: matplotlib is not installed. "
        'To get them: pip install "mlflow-core[report]"'
    ]
    assert "breakdown:1" in mlcore("models", "list").stdout
    run = json.loads(mlcore("--json", "runs", "show").stdout)
    assert [step["name"] for step in run["steps"]] == [
        "dataset",
        "train",
        "evaluate",
        "report",
        "gate",
        "register",
    ]
    page = next((machines / ".mlcore" / "reports").glob("*.html")).read_text()
    assert "This report has no plots" in page
    assert "Expected calibration error" in page
    assert "<svg" not in page


@pytest.mark.parametrize(
    ("trainer", "missing", "extra"),
    [
        ('ml.Torch(module=ml.MLP(), objective="binary")', "torch", "torch"),
        ('ml.Sklearn(estimator="sklearn.linear_model:LogisticRegression")', "skops", "sklearn"),
    ],
)
def test_a_trainer_without_its_library_says_how_to_install_it(machines, mlcore, trainer, missing, extra):
    text = (machines / "training" / "breakdown.py").read_text()
    start = text.index("ml.XGBoost(")
    declare(machines, (text[start : text.index(")", start) + 1], trainer))

    refused = mlcore("train", "breakdown", "--in-process", missing=[missing])

    assert refused.returncode == 1
    assert f'pip install "mlflow-core[{extra}]"' in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_export_without_onnx_says_how_to_install_it(machines, mlcore, tmp_path):
    assert mlcore("train", "breakdown", "--in-process").returncode == 0

    refused = mlcore("models", "export", "breakdown", "--to", str(tmp_path / "out"), missing=["onnx"])

    assert refused.returncode == 1
    assert 'pip install "mlflow-core[onnx]"' in refused.stderr
    assert "Traceback" not in refused.stderr


def test_without_mlflow_a_run_is_not_copied_and_says_what_to_install(machines, mlcore):
    settings = machines / "mlcore.toml"
    settings.write_text(f'{settings.read_text()}\n[mlflow]\ntracking_uri = "http://127.0.0.1:9"\n')

    trained = mlcore("train", "breakdown", "--in-process", missing=["mlflow"])

    assert trained.returncode == 0, trained.stderr
    assert "was not copied to MLflow: MLflow is not installed" in trained.stderr
    assert "To do it later: mlcore runs mirror 2" in trained.stderr
    assert "Traceback" not in trained.stderr
    for words in (("runs", "mirror", "latest"), ("runs", "import", "--from", "http://127.0.0.1:9")):
        refused = mlcore(*words, missing=["mlflow"])
        assert refused.returncode == 1
        assert 'pip install "mlflow-core[mlflow]"' in refused.stderr
        assert "Traceback" not in refused.stderr
