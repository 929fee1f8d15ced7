"""The digests of code: what computes nothing never changes them, what computes something always does."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_core.workflow.code import digest_of_code

PROJECT = {
    "pkg/__init__.py": "from .shapes import Square as Exported\n",
    "pkg/steps.py": '''"""Steps."""
import mlflow_core as ml
from . import shapes
from .numbers import RATE, scaled as by_scale
from .marks import traced
import pkg.deep.inner as inner
import pkg.deep.outer


def start(table: dict, *, top: int = 5) -> int:
    """Doc."""
    values = [by_scale(value) for value in table.values()]  # a comment
    square = shapes.Square(values[0])
    if len(values) > top:
        return recurse(3)
    return int(sum(values) * RATE + square.area() + inner.shift(1) + pkg.deep.outer.lift(2) + later())


@traced
def recurse(n: int) -> int:
    return 0 if n == 0 else recurse(n - 1)


def later() -> int:
    from .numbers import TABLE

    return TABLE["a"]


def unused() -> int:
    return 1
''',
    "pkg/numbers.py": """RATE = 3
TABLE = {}
TABLE["a"] = 7
OTHER = 1


def scaled(value, by=RATE * 2):
    return value * by
""",
    "pkg/shapes.py": '''class Shape:
    factor = 1

    def area(self):
        """Of the whole."""
        return 0


class Square(Shape):
    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side**2 * self.factor

    @staticmethod
    def never():
        return None
''',
    "pkg/marks.py": """import functools


def traced(function):
    @functools.wraps(function)
    def inside(*values):
        return function(*values)

    return inside
""",
    "pkg/deep/__init__.py": "",
    "pkg/deep/inner.py": """from pkg.deep import outer


def shift(value):
    return outer.lift(value) + 1
""",
    "pkg/deep/outer.py": """import pkg.deep.inner

STEP = (1 +
        1)


def lift(value):
    return value + STEP if value else pkg.deep.inner.shift(value)
""",
}


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Mapping[str, str]]]:
    """Write the project with changes, and take the digests of ``start``."""
    before, path = set(sys.modules), list(sys.path)

    def taken(
        changes: Mapping[str, str] | None = None, *, start: str = "pkg.steps:start"
    ) -> Mapping[str, str]:
        root = tmp_path / uuid.uuid4().hex
        for name, text in {**PROJECT, **(changes or {})}.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for name in [one for one in sys.modules if one.partition(".")[0] == "pkg"]:
            del sys.modules[name]
        sys.path[:] = [str(root), *path]
        importlib.invalidate_caches()
        module, _, name = start.partition(":")
        return digest_of_code(getattr(importlib.import_module(module), name), project=(root,))

    yield taken
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "pkg":
            del sys.modules[name]


def edited(file: str, old: str, new: str) -> dict[str, str]:
    assert PROJECT[file].count(old) == 1, old
    return {file: PROJECT[file].replace(old, new)}


def test_a_function_leads_to_all_that_it_names_and_to_nothing_else(digest) -> None:
    assert sorted(digest()) == [
        "pkg.deep.inner:shift",
        "pkg.deep.outer:STEP",
        "pkg.deep.outer:lift",
        "pkg.marks:traced",
        "pkg.numbers:RATE",
        "pkg.numbers:TABLE",
        "pkg.numbers:scaled",
        "pkg.shapes:Shape",
        "pkg.shapes:Square",
        "pkg.steps:later",
        "pkg.steps:recurse",
        "pkg.steps:start",
    ]


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("pkg/steps.py", "> top", ">= top", "pkg.steps:start"),
        ("pkg/steps.py", "top: int = 5", "top: int = 6", "pkg.steps:start"),
        ("pkg/steps.py", "recurse(n - 1)", "recurse(n - 2)", "pkg.steps:recurse"),
        ("pkg/steps.py", 'return TABLE["a"]', 'return TABLE["b"]', "pkg.steps:later"),
        ("pkg/steps.py", "@traced\n", "", "pkg.steps:recurse"),
        ("pkg/marks.py", "function(*values)", "function(*values[:1])", "pkg.marks:traced"),
        ("pkg/numbers.py", "RATE = 3", "RATE = 4", "pkg.numbers:RATE"),
        ("pkg/numbers.py", 'TABLE["a"] = 7', 'TABLE["a"] = 8', "pkg.numbers:TABLE"),
        ("pkg/numbers.py", "by=RATE * 2", "by=RATE * 3", "pkg.numbers:scaled"),
        ("pkg/shapes.py", "self.side**2", "self.side**3", "pkg.shapes:Square"),
        ("pkg/shapes.py", "factor = 1", "factor = 2", "pkg.shapes:Shape"),
        ("pkg/shapes.py", "class Square(Shape)", "class Square", "pkg.shapes:Square"),
        ("pkg/shapes.py", "@staticmethod", "@classmethod", "pkg.shapes:Square"),
        ("pkg/deep/inner.py", "+ 1", "+ 2", "pkg.deep.inner:shift"),
        ("pkg/deep/outer.py", "(1 +", "(2 +", "pkg.deep.outer:STEP"),
        ("pkg/deep/outer.py", "value + STEP", "value - STEP", "pkg.deep.outer:lift"),
    ],
)
def test_an_edit_changes_the_digest_of_what_was_edited(digest, file, old, new, changed) -> None:
    before, after = digest(), digest(edited(file, old, new))

    assert before[changed] != after[changed]
    assert {name for name in before if before[name] != after.get(name)} >= {changed}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("pkg/steps.py", "return 1\n", "return 2\n"),
        ("pkg/steps.py", '"""Doc."""', '"""Another."""'),
        ("pkg/steps.py", '    """Doc."""\n', ""),
        ("pkg/steps.py", "  # a comment", ""),
        ("pkg/steps.py", '"""Steps."""', ""),
        ("pkg/numbers.py", "OTHER = 1", "OTHER = 2"),
        ("pkg/shapes.py", '        """Of the whole."""\n', ""),
        ("pkg/deep/outer.py", "(1 +\n        1)", "1 + 1"),
        ("pkg/steps.py", "values[0]", "values[  0  ]"),
        ("pkg/steps.py", '["a"]', "['a']"),
    ],
)
def test_what_computes_nothing_or_is_not_used_changes_no_digest(digest, file, old, new) -> None:
    assert digest() == digest(edited(file, old, new))


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(sorted(PROJECT)),
        st.sampled_from(["comment", "blank", "doc", "spaces"]),
        st.integers(0, 99),
    ),
    min_size=1,
    max_size=12,
)


@given(changes=CHANGES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_comments_docstrings_blank_lines_and_layout_change_nothing_wherever_they_are(digest, changes) -> None:
    files: dict[str, str] = {}
    for file, what, place in changes:
        files[file] = _decorated(files.get(file, PROJECT[file]), what, place)

    assert digest(files) == digest()


def _decorated(text: str, what: str, place: int) -> str:
    lines = text.split("\n")
    at = place % len(lines)
    if what == "comment":
        lines.insert(at, "# said by the way")
    elif what == "blank":
        lines.insert(at, "")
    elif what == "spaces":
        lines = [line.replace(" + ", "  +   ") + "   " for line in lines]
    else:
        heads = [number for number, line in enumerate(lines) if line.lstrip().startswith(("def ", "class "))]
        if heads:
            head = heads[place % len(heads)]
            indent = " " * (len(lines[head]) - len(lines[head].lstrip()) + 4)
            lines.insert(head + 1, f'{indent}"""Said of it {place}."""')
    return "\n".join(lines)


def test_a_local_name_that_is_called_like_a_global_one_does_not_lead_to_it(digest) -> None:
    text = (
        "RATE = 1\n\n\ndef start(RATE):\n    total = 0\n    for OTHER in RATE:\n        total += OTHER\n"
        "    return total\n\n\nOTHER = 2\n"
    )

    assert list(digest({"pkg/local.py": text}, start="pkg.local:start")) == ["pkg.local:start"]


def test_a_module_that_is_used_as_a_value_counts_whole(digest) -> None:
    text = "from pkg import numbers\n\n\ndef start(name):\n    return getattr(numbers, name)\n"

    found = digest({"pkg/dynamic.py": text}, start="pkg.dynamic:start")
    other = digest(
        {"pkg/dynamic.py": text, **edited("pkg/numbers.py", "OTHER = 1", "OTHER = 2")},
        start="pkg.dynamic:start",
    )

    assert "pkg.numbers:*" in found
    assert found["pkg.numbers:*"] != other["pkg.numbers:*"]


def test_what_a_package_exports_is_followed_to_where_it_is_defined(digest) -> None:
    text = "from pkg import Exported\nfrom pkg.numbers import *\n\n\ndef start(x):\n    return Exported(x).area() * RATE\n"

    assert set(digest({"pkg/other.py": text}, start="pkg.other:start")) == {
        "pkg.numbers:RATE",
        "pkg.other:start",
        "pkg.shapes:Shape",
        "pkg.shapes:Square",
    }


def test_what_is_bound_in_a_block_counts_with_the_block(digest) -> None:
    text = (
        "try:\n    from pkg.numbers import missing as rate\nexcept ImportError:\n    rate = {}\n\n\n"
        "def start(x):\n    return rate, x\n"
    )

    found = digest({"pkg/block.py": text}, start="pkg.block:start")
    other = digest({"pkg/block.py": text.replace("rate = {}", "rate = []")}, start="pkg.block:start")

    assert found["pkg.block:rate"] != other["pkg.block:rate"]
    assert found["pkg.block:start"] == other["pkg.block:start"]


@pytest.mark.parametrize(
    "filling",
    [
        "for n in range(3):\n    TABLE[n] = 1\n",
        "if True:\n    TABLE.update(a=1)\n",
        "try:\n    TABLE['a'] = 1\nexcept TypeError:\n    pass\n",
        "try:\n    import nothing\nexcept ImportError:\n    TABLE['a'] = 1\n",
        "with open(__file__) as file:\n    TABLE[1] = file.read(1)\n",
        "TABLE[1] = 2\nTABLE[2] = 2\ndel TABLE[1]\n",
        "def fill(table):\n    table[1] = 1\n\n\nfill(TABLE)\n",
        "def fill(*, into):\n    into[1] = 1\n\n\nfill(into=TABLE)\n",
        "class TABLE:\n    pass\n\n\nsetattr(TABLE, 'a', 1)\n",
        "import functools\n\n\nTABLE = functools.singledispatch(repr)\n\n\n"
        "@TABLE.register\ndef _(x: int):\n    return 1\n",
    ],
)
def test_what_fills_a_value_while_the_module_is_imported_counts_with_it(digest, filling) -> None:
    def of(text: str) -> Mapping[str, str]:
        text = f"TABLE = {{}}\nOTHER = {{}}\n{text}\n\ndef start(x):\n    return TABLE, x\n"
        return digest({"pkg/filled.py": text}, start="pkg.filled:start")

    assert of(filling) != of(
        filling.replace("1)\n", "2)\n").replace("[1]\n", "[2]\n").replace(" 1\n", " 2\n")
    )
    assert of(filling) == of(f"{filling}OTHER['a'] = 5\nif __name__ == '__main__':\n    print(TABLE)\n")


def test_how_often_a_step_is_tried_is_not_its_code_but_other_decorators_are(digest) -> None:
    text = (
        "import mlflow_core as ml\nfrom pkg.marks import traced\n\n\n"
        "@ml.step\n@traced\ndef start(x: int) -> int:\n    return x\n"
    )

    plain = digest({"pkg/own.py": text}, start="pkg.own:start")
    tried = digest({"pkg/own.py": text.replace("@ml.step", "@ml.step(retries=3)")}, start="pkg.own:start")
    bare = digest({"pkg/own.py": text.replace("@traced\n", "")}, start="pkg.own:start")

    assert plain == tried
    assert set(plain) == {"pkg.marks:traced", "pkg.own:start"}
    assert plain["pkg.own:start"] != bare["pkg.own:start"]


def test_two_processes_give_the_same_digests_whatever_their_hash_seed(digest, tmp_path: Path) -> None:
    here = dict(digest())
    root = next(one for one in tmp_path.iterdir() if (one / "pkg").is_dir())
    program = (
        "import json; from pathlib import Path; from pkg.steps import start; "
        "from mlflow_core.workflow.code import digest_of_code; "
        f"print(json.dumps(dict(digest_of_code(start, project=(Path({str(root)!r}),)))))"
    )
    for seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout.strip() == json.dumps(here)


def test_a_function_from_outside_of_the_project_stands_for_itself(tmp_path: Path) -> None:
    assert list(digest_of_code(os.path.join, project=(tmp_path,))) == ["posixpath:join"]
