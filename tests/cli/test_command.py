"""The command as a process: help without heavy imports, one line for each failure, defined exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlflow_core.cli.root import hoisted
from mlflow_core.cli.verbs import VERBS
from tests.fresh import loaded_by

HEAVY = (
    "dask",
    "distributed",
    "duckdb",
    "feast",
    "numba",
    "numpy",
    "pandas",
    "pyarrow",
    "sqlalchemy",
    "xgboost",
)


def mlcore(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlflow_core.cli", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "from mlflow_core.cli.boundary import run\nassert run(['--help']) == 0"

    assert loaded_by(code, HEAVY, tmp_path) == []


def test_help_names_every_verb_in_80_columns(tmp_path: Path) -> None:
    answer = mlcore("--help", cwd=tmp_path)

    assert answer.returncode == 0
    assert [verb.name for verb in VERBS if f"  {verb.name} " not in answer.stdout] == []
    assert max(len(line) for line in answer.stdout.splitlines()) <= 80


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_verb_has_help_with_an_example(verb: str, tmp_path: Path) -> None:
    answer = mlcore(verb, "--help", cwd=tmp_path)

    assert answer.returncode == 0, answer.stderr
    assert "Usage: mlcore " + verb in answer.stdout
    assert "--install-completion" not in answer.stdout


def test_the_two_meanings_of_clock_are_told_apart(tmp_path: Path) -> None:
    now = [mlcore(*words, "--help", cwd=tmp_path).stdout for words in (["serve"], ["materialize"])]
    rule = [mlcore(*words, "--help", cwd=tmp_path).stdout for words in (["train"], ["dataset", "build"])]

    assert ["--clock NOW" in text and "What time it is taken to be" in text for text in now] == [True, True]
    assert [
        "--clock event|known|served" in text and "Which events an entity row sees" in text for text in rule
    ] == [True, True]


def test_global_options_are_understood_after_the_verb_too() -> None:
    assert hoisted(["config", "show", "--json", "--root", "here", "-v"]) == [
        "--json", "--root", "here", "-v", "config", "show",
    ]  # fmt: skip
    assert hoisted(["config", "--", "--json"]) == ["config", "--", "--json"]
    assert hoisted(["plan", "--env=prod", "--as"]) == ["--env=prod", "--as", "plan"]


def test_an_unknown_verb_exits_with_2_and_names_the_nearest(tmp_path: Path) -> None:
    answer = mlcore("plam", cwd=tmp_path)

    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.splitlines() == [
        "error: No such command 'plam'. Did you mean 'plan'? Try: mlcore --help"
    ]


def test_a_wrong_setting_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "mlcore.toml").write_text("[serve]\nprot = 8000\n")

    answer = mlcore("config", "show", cwd=tmp_path)

    assert answer.returncode == 2
    assert answer.stderr.startswith("error: ")
    assert "mlcore.toml" in answer.stderr
    assert '"port"' in answer.stderr
    assert "Traceback" not in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_the_same_failure_is_an_object_with_json(tmp_path: Path) -> None:
    (tmp_path / "mlcore.toml").write_text("[serve]\nprot = 8000\n")

    answer = mlcore("config", "show", "--json", cwd=tmp_path)

    error = json.loads(answer.stderr)["error"]
    assert (answer.returncode, error["exit_code"], error["type"]) == (2, 2, "ConfigError")
    assert answer.stdout == ""


def test_verbose_shows_the_traceback(tmp_path: Path) -> None:
    (tmp_path / "mlcore.toml").write_text("[serve]\nprot = 8000\n")

    answer = mlcore("-v", "config", "show", cwd=tmp_path)

    assert answer.returncode == 2
    assert "Traceback" in answer.stderr


def test_settings_are_found_from_a_folder_below_and_shown_with_their_origin(tmp_path: Path) -> None:
    (tmp_path / "mlcore.toml").write_text("[serve]\nport = 8123\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)

    answer = mlcore("config", "show", "--origin", "--json", cwd=below)

    entries = {entry["key"]: entry for entry in json.loads(answer.stdout)}
    assert entries["serve.port"] == {"key": "serve.port", "value": "8123", "origin": "mlcore.toml"}
    assert entries["serve.host"]["origin"] == "default"


def test_output_in_a_pipe_has_80_columns_and_no_colours(tmp_path: Path) -> None:
    answer = mlcore("config", "show", "--origin", cwd=tmp_path)

    assert answer.returncode == 0
    assert max(len(line) for line in answer.stdout.splitlines()) <= 80
    assert "\x1b" not in answer.stdout


def test_ctrl_c_exits_with_130(tmp_path: Path) -> None:
    # A project whose declarations take their time, so that there is something to interrupt.
    (tmp_path / "feature_repo").mkdir()
    (tmp_path / "feature_repo" / "feature_store.yaml").write_text("project: slow\nprovider: local\n")
    ready = tmp_path / "ready"
    slow = f"import pathlib, time\npathlib.Path({str(ready)!r}).touch()\ntime.sleep(60)\n"
    (tmp_path / "feature_repo" / "slow.py").write_text(slow)
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow_core.cli", "plan"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)

    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)

    assert process.returncode == 130
    assert stderr.splitlines() == ["interrupted"]
