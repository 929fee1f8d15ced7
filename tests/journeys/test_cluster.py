"""A training set that is built on a cluster of this machine by the command: the same rows, a report, and Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.config import load_settings

ON_DASK = '\n[cluster]\nworkers = 2\nmemory = "1GiB"\nlarger_than = "1kB"\n'


@pytest.fixture
def root(repository: Path, tmp_path: Path) -> Path:
    """A fresh copy of the machines' example, for which a cluster is started however small it is."""
    target = tmp_path / "machines"
    ignored = shutil.ignore_patterns("data", ".mlcore", "__pycache__")
    shutil.copytree(repository / "examples" / "machines", target, ignore=ignored)
    subprocess.run([sys.executable, "generate.py"], cwd=target, check=True)
    with (target / "mlcore.toml").open("a") as settings:
        settings.write(ON_DASK)
    (tmp_path / "tmp").mkdir()
    return target


def words(root: Path, *said: str) -> list[str]:
    return [sys.executable, "-m", "mlflow_core.cli", "--root", str(root), *said]


def environment(root: Path) -> dict[str, str]:
    return os.environ | {"TMPDIR": str(root.parent / "tmp")}


def mlcore(root: Path, *said: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(root, *said), capture_output=True, text=True, env=environment(root), check=False, timeout=300
    )


def left(root: Path) -> list[str]:
    """What lies in the work folder, unfinished in the cache, or in this machine's temporary files."""
    work = [path for path in (root / ".mlcore" / "work").rglob("*") if path.is_file()]
    marks = [path for kind in ("draft", "gone", "lease") for path in (root / ".mlcore").rglob(f".{kind}.*")]
    return sorted(map(str, [*work, *marks, *(root.parent / "tmp").glob("mlcore-*")]))


def rows_of(root: Path, built: subprocess.CompletedProcess[str]) -> pa.Table:
    """All rows of a training set that was built."""
    folder = root.parent / f"rows of {root.name}"
    store = ArtifactStore(load_settings(root).artifact_location())
    store.fetch_tree(json.loads(built.stdout)["content_hash"], folder)
    files = sorted(folder.rglob("part-*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files])


@pytest.mark.long
def test_a_training_set_built_on_a_cluster_has_the_same_rows_and_a_report_when_asked_for(root):
    pytest.importorskip("bokeh")
    alone = root.parent / "alone"
    shutil.copytree(root, alone)
    report = root / "report.html"

    explained = mlcore(root, "dataset", "build", "breakdown", "--explain")
    built = mlcore(root, "--json", "dataset", "build", "breakdown", "--performance-report", str(report))
    in_process = mlcore(alone, "--json", "dataset", "build", "breakdown", "--in-process")

    assert "on Dask" in explained.stdout
    assert built.returncode == 0, built.stderr
    assert in_process.returncode == 0, in_process.stderr
    assert "Dask Performance Report" in report.read_text()
    assert json.loads(built.stdout)["rows"] == json.loads(in_process.stdout)["rows"]
    assert rows_of(root, built).equals(rows_of(alone, in_process))
    assert json.loads(built.stdout)["content_hash"] == json.loads(in_process.stdout)["content_hash"]
    assert "WARNING" not in built.stderr
    assert left(root) == []


@pytest.fixture
def building(root: Path) -> Iterator[subprocess.Popen[str]]:
    """The command at work, in a process group of its own as in a terminal."""
    process = subprocess.Popen(
        words(root, "dataset", "build", "breakdown"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(root),
        start_new_session=True,
    )
    yield process
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def still_there(group: int) -> list[str]:
    """Who of a process group runs on, 10 s after it was to end; who has ended may wait for an idle init."""
    found: list[str] = []
    for _ in range(100):
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                name, _, rest = status.read_text().rpartition(")")
                state, _, its_group = rest.split()[:3]
                found += [name] * (int(its_group) == group and state != "Z")
        if not found:
            break
        time.sleep(0.1)
    return found


@pytest.mark.chaos
@pytest.mark.long
def test_ctrl_c_while_a_training_set_is_built_on_a_cluster_ends_it_with_one_word_and_no_file(root, building):
    deadline = time.monotonic() + 120
    while not list((root / ".mlcore" / "work").glob("engine-*")):  # the workers are at work then
        assert building.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)

    os.killpg(building.pid, signal.SIGINT)  # as a terminal does: to the workers too
    out, said = building.communicate(timeout=120)

    assert building.returncode == 130
    assert (out, said.splitlines()[-1]) == ("", "interrupted")
    assert "Traceback" not in said
    assert "WARNING" not in said
    assert still_there(building.pid) == []
    assert left(root) == []
    assert mlcore(root, "--json", "dataset", "show").stdout.strip() == "[]"


def test_a_report_on_a_cluster_that_is_not_needed_is_refused(root):
    refused = mlcore(root, "dataset", "build", "breakdown", "--in-process", "--performance-report", "r.html")

    assert refused.returncode == 2
    assert "there is no cluster to report on" in refused.stderr
