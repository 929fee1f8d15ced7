"""What is only referred to is kept nowhere: not by a step that says it, nor by an error that names it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mlflow_core.cli.boundary import run

PASSWORD = "tiger-42 of the database"
TOKEN = "a-token-that-lets-ops-write"

SETTINGS = """
[project]
name = "parcels"

[serve.tokens]
ops = "${env:SERVE_TOKEN}"
"""

SOURCE = """
import mlflow_core as ml

parcels = ml.SqlSource(
    "parcels", url="sqlite:///${env:DB_PASSWORD}", table="parcels", event_time="sent_at"
)
"""

STEPS = '''
"""A step that says all it knows, and an error that does."""

import logging
import os

import mlflow_core as ml

KNOWN = ("DB_PASSWORD", "SERVE_TOKEN", "MLCORE_TOKEN_OF_TEST")


@ml.step
def telling() -> int:
    for name in KNOWN:
        print("connected with", os.environ[name])
        logging.getLogger("driver").warning("password=%s", os.environ[name])
    return 1


@ml.step
def failing(telling: int) -> int:
    raise ConnectionError(f"refused: {[os.environ[name] for name in KNOWN]}")


careless = ml.Pipeline("careless", steps=[telling(), failing()])
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    monkeypatch.setenv("SERVE_TOKEN", TOKEN)
    root = tmp_path / "parcels"
    for folder in ("feature_repo", "pipelines"):
        (root / folder).mkdir(parents=True)
    (root / "mlcore.toml").write_text(SETTINGS)
    (root / "feature_repo" / "parcels.py").write_text(SOURCE)
    (root / "pipelines" / "own.py").write_text(STEPS)
    with closing(sqlite3.connect(root / "feature_repo" / PASSWORD)) as database:
        database.execute("CREATE TABLE parcels (sent_at TIMESTAMP)")
    return root


def files_with(root: Path, text: str) -> Iterator[str]:
    """Files below a folder in which a text stands, whatever they are."""
    for file in root.rglob("*"):
        if file.is_file() and text.encode() in file.read_bytes():
            yield file.relative_to(root).as_posix()


def test_what_a_step_says_of_a_secret_is_in_no_log_no_record_and_no_artifact(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["--root", str(project), "--json", "tokens", "create", "ops"]) == 0
    made = capsys.readouterr().out.split('"token": "')[1].split('"')[0]
    monkeypatch.setenv("MLCORE_TOKEN", made)
    monkeypatch.setenv("MLCORE_TOKEN_OF_TEST", made)

    assert run(["--root", str(project), "-vv", "train", "careless"]) == 1

    said = capsys.readouterr()
    assert "ConnectionError: refused: ['***', '***', '***']" in said.err
    assert "connected with ***" in said.err
    assert run(["--root", str(project), "runs", "show", "latest"]) == 0
    assert "ConnectionError: refused: ['***', '***', '***']" in " ".join(capsys.readouterr().out.split())
    for secret in (PASSWORD, TOKEN, made):
        assert secret not in said.out + said.err
        assert list(files_with(project, secret)) == []
    assert list(files_with(project, "connected with ***")) != [], "the log is there"


def test_an_error_that_names_a_secret_is_told_without_it(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_arguments: object) -> object:
        raise OSError(f"cannot log in with {PASSWORD}")

    monkeypatch.setattr("mlflow_core.metadata.store.check_database", refused)
    with (project / "mlcore.toml").open("a") as settings:
        settings.write('\n[metadata]\nurl = "postgresql://ml:${env:DB_PASSWORD}@127.0.0.1:1/ml"\n')

    for words in (["runs", "list"], ["-v", "runs", "list"], ["--json", "runs", "list"]):
        assert run(["--root", str(project), *words]) == 1
        said = capsys.readouterr().err
        assert "cannot log in with ***" in said
        assert PASSWORD not in said
