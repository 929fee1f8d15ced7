"""The small example project, copied where a test may write, opened in this process."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_core.workflow.project import open_workspace


def copied(repository: Path, target: Path) -> Path:
    """Copy ``examples/machines`` without what it wrote, and make its readings."""
    source = repository / "examples" / "machines"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("data", ".mlcore", "__pycache__"))
    spec = importlib.util.spec_from_file_location("machines_generate", target / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.generate(target / "machines" / "data" / "readings.parquet")
    return target


@pytest.fixture(autouse=True)
def interrupts():
    """As a process begins with them, whatever a library or a test before has made of them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    if before is not None:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def machines(repository, tmp_path):
    """The folder of a fresh copy of the example."""
    return copied(repository, tmp_path / "machines_project")


@pytest.fixture
def workspace(machines):
    """The example's workspace."""
    found = open_workspace(machines)
    yield found
    found.metadata.close()


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are ended with the test, whatever came of it."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for one in processes:
        if one.poll() is None:
            one.kill()
        one.wait()
