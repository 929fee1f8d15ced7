"""Pages that a newcomer follows from an empty folder, followed to the letter: files saved, commands typed, answers read."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_core.cli.boundary import run
from tests.house.pages import Command, blocks_of, commands_of
from tests.house.repository import ROOT, our_files, shown

EXAMPLES = ("examples/machines/README.md",)
OWN_PROJECT = "docs/own-project.md"
PAGES = ("docs/steps.md", "docs/schedules.md", "docs/mlflow.md")


def test_a_project_grows_from_an_empty_folder_as_its_page_says(tmp_path, monkeypatch, capsys):
    page = (ROOT / OWN_PROJECT).read_text()

    walk(page, tmp_path, monkeypatch, capsys)

    assert list((tmp_path / ".mlcore" / "reports").glob("late_parcel-*.html"))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_the_documentation_holds_for_the_project_that_it_begins_with(
    page, tmp_path, monkeypatch, capsys
):
    walk((ROOT / page).read_text(), tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("page", EXAMPLES)
def test_an_example_does_what_its_page_says(page, tmp_path, monkeypatch, capsys):
    ignored = shutil.ignore_patterns("data", ".mlcore", "__pycache__")
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=ignored)

    walk((ROOT / page).read_text(), tmp_path, monkeypatch, capsys)


def test_every_page_that_shows_files_is_walked():
    with_files = {
        shown(path)
        for path in our_files(".md")
        if any(block.title is not None for block in blocks_of(path.read_text()))
    }

    assert with_files == {OWN_PROJECT, *PAGES}


def walk(page: str, folder: Path, monkeypatch, capsys) -> None:
    """Do what a page says, from top to bottom, beginning in a folder."""
    for block in blocks_of(page):
        if block.title is not None:
            path = Path(folder, block.title)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "console":
            for command in commands_of(block):
                folder = typed(command, folder, monkeypatch, capsys)


def typed(command: Command, folder: Path, monkeypatch, capsys) -> Path:
    """Type one command in a folder; it must succeed and say what the page shows. Returns the folder after it."""
    monkeypatch.chdir(folder)
    program, *words = command.words
    if program == "cd":
        return folder / words[0]
    capsys.readouterr()
    if program == "mlcore":
        code = run(words)
        told = capsys.readouterr()
        out, err = told.out, told.err
    else:
        assert program == "python", f"{command.text}: a page may say cd, python and mlcore"
        answer = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, check=False, timeout=120
        )
        code, out, err = answer.returncode, answer.stdout, answer.stderr
    assert code in ((0, 4) if words[:1] == ["plan"] else (0,)), (
        f"{command.text}: exit code {code}\n{out}{err}"
    )
    lines = {without_figures(line) for line in out.splitlines()}
    missing = [line for line in command.shown if line.strip() and without_figures(line) not in lines]
    assert missing == [], f"{command.text} said\n{out}"
    return folder


def without_figures(line: str) -> str:
    """A line with its figures and its spacing made equal: another processor may round another way."""
    return " ".join(re.sub(r"\d+(?:[.,]\d+)*", "0", line).split())
