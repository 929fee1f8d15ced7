"""What a process that looks has printed, as its scheduler reads it: what it found, what went wrong, or that it took too long."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from mlflow_core.errors import WorkflowError
from mlflow_core.workflow.schedule.child import Child, start_child
from mlflow_core.workflow.schedule.looking import found_by

DOCUMENT = '{\n  "why": null,\n  "found": {\n    "rows": [\n      1,\n      2\n    ]\n  }\n}'


def child(folder: Path, script: str) -> Child:
    return start_child([sys.executable, "-c", script], folder / "looked.log", folder=folder)


@pytest.mark.parametrize("before", ["", '{"event": "slow"}\n', "{\na line of a library\n"])
@pytest.mark.parametrize("behind", ["", "\nx.py:1: ResourceWarning: {1}"])
def test_the_document_is_found_among_lines_of_the_log(tmp_path: Path, before: str, behind: str) -> None:
    assert found_by(child(tmp_path, f"print({before + DOCUMENT + behind!r})")) == {"rows": [1, 2]}


def test_what_went_wrong_is_told_in_the_words_of_the_command(tmp_path: Path) -> None:
    script = """print('{"error": {"message": "the source is empty"}}'); raise SystemExit(1)"""

    with pytest.raises(WorkflowError, match="the source is empty"):
        found_by(child(tmp_path, script))
    with pytest.raises(WorkflowError, match="ended with exit status 3"):
        found_by(child(tmp_path, "raise SystemExit(3)"))
    for other in ("something else", "{}", "[1]"):
        with pytest.raises(WorkflowError, match=f"cannot be read: {re.escape(other)}"):
            found_by(child(tmp_path, f"print({other!r})"))
    with pytest.raises(WorkflowError, match=r"cannot be read: $"):
        found_by(child(tmp_path, ""))


def test_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    hanging = child(tmp_path, "import time; time.sleep(600)")

    with pytest.raises(WorkflowError, match=r"could not be looked at within 0\.5 s"):
        found_by(hanging, within_s=0.5)

    assert hanging.poll() is not None
