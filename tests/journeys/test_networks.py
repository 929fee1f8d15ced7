"""The example of networks, as its README says it: three models on the same flights, and an autoencoder on hours."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest


@pytest.mark.long
def test_every_model_is_trained_and_the_winner_is_named_with_its_interval(repository, tmp_path):
    root = tmp_path / "networks"
    ignored = shutil.ignore_patterns("data", ".mlcore", "__pycache__")
    shutil.copytree(repository / "examples" / "networks", root, ignore=ignored)

    for words in (["prepare.py", "--one-plane-in", "20"], ["compare.py"]):
        done = subprocess.run([sys.executable, *words], cwd=root, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr

    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines if ": trained in" in line] == [
        "trees",
        "network",
        "recurrent",
    ]
    for metric in ("auc", "log_loss"):
        place = next(number for number, line in enumerate(lines) if line.startswith(f"{metric}: "))
        assert "wins with" in lines[place]
        assert all("worse (95 %: " in line for line in lines[place + 1 : place + 3])
    assert "trouble within three hours is told with AUC" in lines[-1]
