"""Every public name says in one sentence what it is, and the examples in docstrings run.

Source: the rules of docs/adr; ruff's D rules hold the sections, these tests what ruff does not see.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_core.cli.verbs import VERBS
from tests.house.repository import PACKAGE, ROOT, our_files, shown

MODULES = [path for path in our_files(".py", under=PACKAGE) if "migrations" not in path.parts]
WITH_EXAMPLES = [path for path in MODULES if ">>> " in path.read_text()]
EXAMPLE = re.compile(r"^ *Examples?: *(.*)$", re.MULTILINE)
COMMAND = re.compile(rf"$|mlcore ({'|'.join(verb.name for verb in VERBS)})\b")
Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def public_names(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, Documented]]:
    """Public functions, classes and their methods; overloads and setters belong to the name they extend."""
    for node in body:
        if not isinstance(node, Documented) or node.name.startswith("_"):
            continue
        marks = {ast.unparse(mark).split("(")[0].rsplit(".", 1)[-1] for mark in node.decorator_list}
        if marks & {"overload", "setter", "deleter", "override"}:
            continue
        yield owner + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from public_names(node.body, f"{owner}{node.name}.")


def first_sentence_is_missing(node: Documented) -> bool:
    text = (ast.get_docstring(node) or "").strip()
    first_paragraph = text.split("\n\n", 1)[0].strip()
    return not first_paragraph.endswith((".", "?", "!", ":", "::"))


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_every_public_name_says_in_a_sentence_what_it_is(path: Path) -> None:
    names = public_names(ast.parse(path.read_text()).body)

    wordless = [
        f"{shown(path)}:{node.lineno} {name}" for name, node in names if first_sentence_is_missing(node)
    ]

    assert wordless == []


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_an_example_section_holds_lines_that_can_be_run(path: Path) -> None:
    documented = [
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Module | Documented)
    ]

    without_code = [
        f"{shown(path)}:{getattr(node, 'lineno', 1)}"
        for node in documented
        for text in [ast.get_docstring(node) or ""]
        for example in EXAMPLE.findall(text)
        if not (COMMAND.match(example) if "cli" in path.parts else ">>> " in text)
    ]

    assert without_code == [], "write the example as >>> lines, they are run; a command's as the command"


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=shown)
def test_the_examples_in_docstrings_run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)

    outcome = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)

    assert outcome.failed == 0, capsys.readouterr().out
    assert outcome.attempted > 0
