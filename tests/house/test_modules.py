"""The shape of the tree: short modules with a paragraph at the top, folders and files named after nouns."""

from __future__ import annotations

import ast

from tests.house.repository import PACKAGE, ROOT, our_files, shown

LONGEST = 400
NOT_NOUNS = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}
CODE = [
    ROOT / name for name in ("mlflow_core", "tests", "benchmarks", "feature_repo", "pipelines", "examples")
]


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    lengths = {
        shown(path): len(path.read_text().splitlines())
        for folder in CODE
        if folder.is_dir()
        for path in our_files(".py", under=folder)
    }

    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}


def test_no_module_or_folder_is_named_after_nothing() -> None:
    named = {shown(path) for path in our_files(".py", under=PACKAGE)}

    nameless = {name for name in named if NOT_NOUNS & set(name.removesuffix(".py").split("/"))}

    assert nameless == set()


def test_every_module_opens_with_a_paragraph_that_says_what_it_is() -> None:
    silent = [
        shown(path)
        for path in our_files(".py", under=PACKAGE)
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text()))
    ]

    assert silent == []


def test_every_room_is_a_package() -> None:
    folders = {path.parent for path in our_files(".py", under=PACKAGE)}

    assert [shown(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_the_package_ships_its_types() -> None:
    assert (PACKAGE / "py.typed").is_file()
