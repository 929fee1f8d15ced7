"""The Python blocks of README.md and docs/ run: per page in order, in one namespace, in a copy of the repository.

Blocks with a title are files of a project that the page builds, and console blocks are commands: neither is run here;
tests/journeys/test_pages.py walks through them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.pages import blocks_of
from tests.house.repository import ROOT, our_files, shown

COPIED = ("feature_repo", "pipelines", "examples", "pyproject.toml", "mlcore.toml")


def python_of(page: str) -> str:
    """The page as a script: its Python blocks where they stand, all other lines empty, so that errors point home."""
    script = [""] * len(page.splitlines())
    for block in blocks_of(page):
        if block.language == "python" and block.title is None:
            lines = block.text.splitlines()
            script[block.line - 1 : block.line - 1 + len(lines)] = lines
    return "\n".join(script) + "\n"


PAGES = [
    path
    for path in [ROOT / "README.md", *our_files(".md", under=ROOT / "docs")]
    if python_of(path.read_text()).strip()
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The parts of the repository that an example may read, where it may also write."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.db*"))
        elif source.is_file():
            shutil.copy(source, tmp_path / name)
    return tmp_path


def test_the_readme_shows_code() -> None:
    assert ROOT / "README.md" in PAGES


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_the_examples_of_a_page_run(page: Path, copy: Path) -> None:
    script = copy / (page.stem.replace("-", "_") + "_examples.py")
    script.write_text(python_of(page.read_text()))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(copy), str(ROOT)])}

    answer = subprocess.run(
        [sys.executable, str(script)],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )

    assert answer.returncode == 0, f"{shown(page)}: line numbers are the page's\n{answer.stderr[-4000:]}"


def test_a_page_becomes_a_script_whose_lines_keep_their_numbers() -> None:
    page = (
        "# Title\n\n```python\na = 1\n```\ntext\n```console\n$ make\n```\n```python\nassert a == 1\n```\n"
        '```python title="file.py"\nraise\n```\n'
    )

    assert python_of(page) == "\n\n\na = 1\n\n\n\n\n\n\nassert a == 1\n\n\n\n\n"
