"""``mlcore dataset build --explain`` on the small example: what it says, and that it builds nothing."""

from __future__ import annotations

import contextlib
import json
import re
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from mlflow_core.cli.boundary import run
from tests.workflow.conftest import copied


@pytest.fixture
def machines(repository, tmp_path):
    return copied(repository, tmp_path / "machines")


def mlcore(root: Path, *words: str) -> tuple[int, str]:
    out, err = StringIO(), StringIO()
    with contextlib.chdir(root), redirect_stdout(out), redirect_stderr(err):
        code = run(words)
    return code, out.getvalue() + err.getvalue()


def test_it_says_what_would_be_read_where_and_why_and_builds_nothing(machines):
    code, told = mlcore(machines, "dataset", "build", "breakdown", "--explain")

    assert code == 0, told
    # A line that is too long for a pipe goes on below its label.
    lines = re.sub(r"\n {9}(?=\S)", " ", told).splitlines()
    assert "rows     one for each event of readings, as of read_at + interval '2 hours'" in lines
    assert "  columns   machine, read_at, temperature, vibration, broke" in lines
    assert (
        "reads    readings for rows, columns machine, read_at: "
        "1 of 1 file, 800 of 800 events, 25.6 kB of 25.6 kB" in lines
    )
    assert (
        "reads    readings for label, columns machine, read_at, broke: "
        "1 of 1 file, 800 of 800 events, 32.0 kB of 32.0 kB" in lines
    )
    assert "  events    of all times until 2024-03-20T02:00:00Z" in lines, (
        "the last boundary that the last row sees"
    )
    assert "  14d       sum of broke" in lines
    assert "given    at most 800 rows, 2024-01-01T02:00:00Z to 2024-03-20T02:09:00Z, 32.0 kB" in lines
    assert lines[-1].startswith("route    in process: 44.8 kB to read,")
    assert not list((machines / ".mlcore").glob("artifacts/*"))


def test_the_same_comes_as_values(machines):
    code, told = mlcore(machines, "--json", "dataset", "build", "breakdown", "--explain", "--in-process")

    assert code == 0, told
    data = json.loads(told)
    assert data["views"][0]["windows"] == {
        "3d": ["mean of vibration", "max of vibration"],
        "14d": ["sum of broke"],
    }
    assert data["sources"][0]["reads"] == {"files": 1, "rows": 800, "bytes": 44800}
    assert data["before"]["label"]["source"] == "readings"
    assert data["before"]["label"]["columns"] == ["machine", "read_at", "broke"]
    assert data["route"]["place"] == "in process"
    assert data["clock"] == "served"
    assert data["plan"].endswith(data["route"]["why"])
