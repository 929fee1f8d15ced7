"""The whole tree of commands: each has a help of its own with an example that the command understands, in 80 columns."""

from __future__ import annotations

import re
import shlex

import pytest
import typer

from mlflow_core.cli.boundary import run
from mlflow_core.cli.root import app
from tests.cli.test_command import HEAVY
from tests.fresh import fresh
from tests.house.test_commands import commands, understood

PATHS = [path for path, _ in commands()]


def groups(group=None, path=()):
    """Every word that has further words behind it."""
    group = group or typer.main.get_command(app)
    context = typer.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            yield " ".join((*path, name))
            yield from groups(command, (*path, name))


def helped(path, capsys):
    code = run([*path.split(), "--help"])
    told = capsys.readouterr()
    assert (code, told.err) == (0, "")
    return told.out


@pytest.mark.parametrize("path", PATHS)
def test_every_command_has_help_with_an_example_that_it_understands(path, capsys):
    text = helped(path, capsys)

    assert text.strip().startswith(f"Usage: mlcore {path}")
    # A sentence, then the example: the example may be folded over two lines, the options come next.
    example = re.search(r"Example: (mlcore .+?)\n\n", text, flags=re.DOTALL)
    assert example is not None, text
    words = shlex.split(" ".join(example.group(1).split()))
    assert understood(words[1:]) == f"mlcore {path}"


@pytest.mark.parametrize("path", ["", *groups(), *PATHS])
def test_help_has_80_columns_and_no_colours(path, capsys):
    text = helped(path, capsys)

    assert max(len(line) for line in text.splitlines()) <= 80
    assert "\x1b" not in text


@pytest.mark.parametrize("path", [*groups()])
def test_a_group_alone_shows_its_help_and_is_wrong_usage(path, capsys):
    code = run(path.split())

    told = capsys.readouterr()
    assert code == 2
    assert f"Usage: mlcore {path}" in told.err + told.out


def test_no_help_imports_anything_heavy(tmp_path):
    code = (
        "import io, sys\n"
        "from contextlib import redirect_stdout\n"
        "from mlflow_core.cli.boundary import run\n"
        f"for path in {['', *PATHS]!r}:\n"
        "    with redirect_stdout(io.StringIO()):\n"
        "        assert run([*path.split(), '--help']) == 0, path\n"
        f"    heavy = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "    assert not heavy, f'mlcore {path} --help imports {heavy}'\n"
    )

    answer = fresh(code, tmp_path)

    assert (answer.returncode, answer.stderr) == (0, "")
