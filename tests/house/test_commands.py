"""The commands that people are told to type exist, and continuous integration calls the same ones."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import typer

from mlflow_core.cli.root import app, hoisted
from mlflow_core.plan.load import load_project
from tests.house.pages import console_commands
from tests.house.repository import ROOT, our_files, shown

TARGETS = set(re.findall(r"^([a-z%-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))

TYPED = [
    pytest.param(command.words[1:], id=f"{shown(path)}: {command.text}")
    for path in our_files(".md")
    for command in console_commands(path.read_text())
    if command.words[0] == "mlcore"
]


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


@pytest.mark.parametrize("words", TYPED)
def test_every_mlcore_command_in_the_documents_is_one_that_it_understands(words: Sequence[str]) -> None:
    assert understood(words)


def test_a_command_that_does_not_exist_is_found() -> None:
    for words in (["materialise"], ["train", "late_arrival", "--compare-clock"], ["runs", "shows"]):
        with pytest.raises(typer.TyperException):
            understood(words)


def test_the_questions_in_the_documents_name_what_the_flagship_wants_to_know() -> None:
    service = load_project(ROOT, name="flights", feature_repo="feature_repo", pipelines="pipelines").services[
        "delay_model"
    ]
    wanted = {key for one in service.selections for key in one.view.entity.keys}
    wanted |= {name for one in service.on_demand for name in one.request}

    asked = [
        {word.partition("=")[0] for word in parameter.values[0] if "=" in word}
        for parameter in TYPED
        if {"delay_model", "late_arrival"} & set(parameter.values[0])
        and parameter.values[0][0] in ("features", "predict")
        and "--at" in parameter.values[0]
    ]

    assert asked, "no page asks for features or a prediction"
    assert [names for names in asked if names != wanted] == []


def test_the_command_reference_names_every_command_and_every_option() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    rows = {
        words[1]: row for row in page.splitlines() if (words := re.match(r"\| `mlcore ([a-z -]+[a-z])", row))
    }

    for path, options in commands():
        assert path in rows, f"mlcore {path} is missing in docs/cli.md"
        assert [option for option in options if f"`{option}" not in rows[path]] == [], path
    assert set(rows) == {path for path, _ in commands()}


def understood(words: Sequence[str]) -> str:
    """Parse a command as the command line does, without running it; return its path."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("mlcore", hoisted(words))
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    return str(context.command_path)


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, list[str]]]:
    """Every command with its own options; those that every command has left out."""
    group = group or typer.main.get_command(app)
    context = typer.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            yield from commands(command, (*path, name))
        else:
            names = [max(one.opts, key=len) for one in command.params if one.param_type_name == "option"]
            given = [name for name in names if name != "--help" and "completion" not in name]
            yield " ".join((*path, name)), given
