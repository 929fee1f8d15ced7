"""Shell completion: the script, and the words that it asks the command for, without heavy imports."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mlflow_core.cli.boundary import run
from tests.cli.test_command import HEAVY
from tests.fresh import fresh


def asked(typed: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Ask for completions as bash does while the line is typed."""
    code = (
        "import atexit, sys\n"
        "from mlflow_core.cli.boundary import run\n"
        f"atexit.register(lambda: print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr))\n"
        "run([])\n"
    )
    words = typed.split(" ")
    completing = {
        "_MLCORE_COMPLETE": "complete_bash",
        "COMP_WORDS": typed.rstrip(),
        "COMP_CWORD": str(len(words) - 1),
    }
    return fresh(code, cwd, **completing)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("mlcore mod", ["models"]),
        ("mlcore models li", ["list", "lineage"]),
        ("mlcore dataset export --fo", ["--format"]),
    ],
)
def test_words_are_completed_from_the_tree_of_commands(typed, offered, tmp_path):
    answer = asked(typed, tmp_path)

    assert set(answer.stdout.split()) == set(offered), answer.stderr
    assert answer.stderr.strip() == "[]", "completing imports nothing heavy"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_mlcore(shell, capsys):
    assert run(["completion", shell]) == 0

    script = capsys.readouterr().out
    assert "_MLCORE_COMPLETE=complete_" + shell in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=60)


def test_an_unknown_shell_is_answered_with_the_nearest(capsys):
    assert run(["completion", "bsh"]) == 2
    assert 'Did you mean "bash"' in capsys.readouterr().err
