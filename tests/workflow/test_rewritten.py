"""What is remembered of files by their place: one that was written again unnoticed counts, and a copy does not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mlflow_core.sources import SeenSource
from mlflow_core.workflow.rewritten import remembered


def told(memory: Path, **files: tuple[str, str]) -> str:
    return remembered({"readings": SeenSource("sha256:a", files)}, memory)["readings"]


def test_a_file_counts_from_when_it_was_touched_with_its_old_size_and_time(tmp_path: Path) -> None:
    memory = tmp_path / "new" / "files.json"
    assert told(memory, one=("5 1.0", "11")) == "sha256:a"
    assert told(memory, one=("5 1.0", "11")) == "sha256:a"

    again = told(memory, one=("5 1.0", "12"))
    assert again.startswith("sha256:a sha256:")
    assert told(memory, one=("5 1.0", "12")) == again, "and stays so"
    assert told(memory, one=("5 1.0", "13")) not in ("sha256:a", again)

    assert told(memory, one=("6 2.0", "14")) == "sha256:a", "that is a change that its size and time tell"
    assert [one.name for one in memory.parent.iterdir()] == ["files.json"]


def test_a_copy_elsewhere_is_not_one_that_was_written_again(tmp_path: Path) -> None:
    memory = tmp_path / "files.json"
    told(memory, one=("5 1.0", "11"))
    assert told(memory, copy=("5 1.0", "99")) == "sha256:a"
    assert told(memory, one=("5 1.0", "12"), copy=("5 1.0", "99")) != "sha256:a"


def test_sources_are_told_apart_and_those_elsewhere_have_no_files(tmp_path: Path) -> None:
    memory = tmp_path / "files.json"
    first = {"a": SeenSource("x", {"one": ("1", "1")}), "b": SeenSource("y", {}), "c": SeenSource("z", {})}
    assert remembered(first, memory) == {"a": "x", "b": "y", "c": "z"}
    then = {**first, "a": SeenSource("x", {"one": ("1", "2")})}
    found = remembered(then, memory)
    assert (found["a"].startswith("x sha256:"), found["b"], found["c"]) == (True, "y", "z")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"one": 3, "two": ["1"]}', "\0"])
def test_a_memory_that_is_damaged_is_begun_anew(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    memory = tmp_path / "files.json"
    memory.write_text(text)
    with caplog.at_level(logging.WARNING, "mlflow_core"):
        assert told(memory, one=("5 1.0", "11")) == "sha256:a"
        assert told(memory, one=("5 1.0", "12")) != "sha256:a"


def test_where_nothing_can_be_written_it_goes_on_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "mlflow_core"):
        assert told(tmp_path / "file" / "files.json", one=("5 1.0", "11")) == "sha256:a"
    assert "may not be noticed" in caplog.text
