"""The commands that people are told to type exist, and continuous integration calls the same ones."""

from __future__ import annotations

import os
import re
import subprocess

from tests.house.repository import ROOT, our_files

TARGETS = set(re.findall(r"^([a-z%-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_make_alone_lists_every_target() -> None:
    answer = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)

    assert {line.split()[1] for line in answer.stdout.splitlines() if line.startswith("  make ")} == TARGETS


def test_every_make_command_in_the_documents_is_a_target() -> None:
    told = {
        target
        for path in our_files(".md")
        for target in re.findall(r"(?:^\$ |`)make ([a-z][a-z-]*)", path.read_text(), flags=re.MULTILINE)
    }

    assert {"demo", "test"} <= told
    assert {name for name in told if name not in TARGETS and not name.startswith("bench-")} == set()


def test_continuous_integration_runs_the_checks_and_then_the_test_command_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    commands = [line for line in script.read_text().splitlines() if line.startswith("make ")]

    assert os.access(script, os.X_OK)
    assert commands == ["make lint", "make test"]
    assert "\n$ make test\n" in (ROOT / "README.md").read_text()
