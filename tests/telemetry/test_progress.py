"""Progress: silent, plain lines in a pipe, bars on a terminal (a real pseudo-terminal)."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TextIO

import pytest

from mlflow_core.telemetry import (
    ConsoleProgress,
    PlainProgress,
    Progress,
    SilentProgress,
    Stage,
    TerminalProgress,
)


@contextmanager
def terminal(seen: list[str]) -> Iterator[TextIO]:
    """A real pseudo-terminal that somebody reads: unread, it would fill up and block its writer."""
    reader, writer = pty.openpty()
    chunks: list[bytes] = []

    def drain() -> None:
        with contextlib.suppress(OSError):  # the end of a pseudo-terminal is an input/output error
            while chunk := os.read(reader, 4096):
                chunks.append(chunk)

    thread = threading.Thread(target=drain)
    thread.start()
    with os.fdopen(writer, "w") as stream:
        yield stream
    thread.join()
    os.close(reader)
    seen.append(b"".join(chunks).decode())


def on_a_terminal(after_s: float, seconds: float, total: int | None) -> str:
    seen: list[str] = []
    with terminal(seen) as stream:
        progress = ConsoleProgress(stream, after_s=after_s)
        with progress.stage("reading", total, "rows") as stage:
            stage.advance(3)
            time.sleep(seconds)
            stage.advance(2)
    return seen[0]


def test_a_short_stage_shows_nothing_on_a_terminal() -> None:
    assert on_a_terminal(after_s=5.0, seconds=0.0, total=5) == ""


@pytest.mark.parametrize("total", [5, None])
def test_a_long_stage_shows_a_bar_that_ends_complete(total: int | None) -> None:
    text = on_a_terminal(after_s=0.05, seconds=0.4, total=total)
    assert "reading" in text
    assert "5/5" in text
    assert "rows" in text


def test_two_stages_at_once_share_one_terminal() -> None:
    seen: list[str] = []
    with terminal(seen) as stream:
        progress = TerminalProgress(stream, after_s=0.0)
        with progress.stage("outer", 2), progress.stage("inner", 1) as inner:
            time.sleep(0.2)
            inner.advance()
    assert "outer" in seen[0]
    assert "inner" in seen[0]


def test_in_a_pipe_a_long_stage_is_one_plain_line() -> None:
    out = io.StringIO()
    progress = ConsoleProgress(out, after_s=0.0)
    with progress.stage("reading", 2_000, "rows") as stage:
        stage.advance(2_000)
    assert out.getvalue().startswith("reading: 2,000 rows in 0.")
    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue()


def test_in_a_pipe_a_short_stage_is_not_mentioned() -> None:
    out = io.StringIO()
    with ConsoleProgress(out).stage("quick"):
        pass
    assert out.getvalue() == ""


def test_a_stage_that_fails_says_how_far_it_came() -> None:
    out = io.StringIO()
    with (
        pytest.raises(ValueError, match="broken"),
        PlainProgress(out, after_s=0).stage("reading", 10, "rows") as stage,
    ):
        stage.advance(4)
        raise ValueError("broken")
    assert out.getvalue().startswith("reading: 4 of 10 rows in ")
    assert out.getvalue().endswith("(stopped)\n")


def test_many_threads_may_advance_one_stage() -> None:
    out = io.StringIO()
    with PlainProgress(out, after_s=0).stage("rows") as stage, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: stage.advance(1), range(1_000)))
    assert "1,000" in out.getvalue()


def test_every_progress_keeps_the_protocol() -> None:
    out = io.StringIO()
    for progress in (
        SilentProgress(),
        PlainProgress(out),
        TerminalProgress(out),
        ConsoleProgress(out),
    ):
        assert isinstance(progress, Progress)
        assert isinstance(progress.stage("x"), Stage)


def test_in_a_pipe_a_very_long_stage_says_now_and_then_how_far_it_is() -> None:
    out = io.StringIO()
    with PlainProgress(out, after_s=0.0, every_s=0.1).stage("parting events", 4, "files") as stage:
        stage.advance(1, rows=1_000_000, size=12_300_000)
        time.sleep(0.35)
        stage.advance(3, rows=3_000_000, size=36_900_000)
    first, *_, last = out.getvalue().splitlines()
    assert re.fullmatch(
        r"parting events: 1 of 4 files, 1,000,000 rows, 12.3 MB after 0 s, about [01] s left", first
    )
    assert last.startswith("parting events: 4 files, 4,000,000 rows, 49.2 MB in 0.")


def test_a_stage_that_has_nothing_to_count_says_that_it_is_still_running() -> None:
    out = io.StringIO()
    with PlainProgress(out, after_s=0.0, every_s=0.1).stage("storing"):
        time.sleep(0.15)
    assert out.getvalue().splitlines()[0] == "storing: still running after 0 s"


def test_a_bar_shows_rows_bytes_and_the_time_left() -> None:
    seen: list[str] = []
    with (
        terminal(seen) as stream,
        TerminalProgress(stream, after_s=0.0).stage("parting", 4, "files") as stage,
    ):
        for _ in range(3):
            time.sleep(0.2)
            stage.advance(1, rows=1_500, size=2_000)
        time.sleep(0.2)
    assert "3/4" in seen[0]
    assert "files 4,500 rows, 6 kB" in seen[0]
    assert "left" in seen[0]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (999, "999 B"),
        (1_000, "1 kB"),
        (12_345_678, "12.3 MB"),
        (999_999_999, "1,000 MB"),
        (5 * 10**15, "5,000 TB"),
    ],
)
def test_sizes_are_short(size: int, text: str) -> None:
    out = io.StringIO()
    with PlainProgress(out, after_s=0.0).stage("x") as stage:
        stage.advance(0, size=size)
    assert out.getvalue().startswith(f"x: {text} in")
