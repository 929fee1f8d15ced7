"""Progress: silent, plain lines in a pipe, bars on a terminal (a real pseudo-terminal)."""

from __future__ import annotations

import io
import os
import pty
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlflow_core.telemetry import (
    PlainProgress,
    Progress,
    SilentProgress,
    Stage,
    TerminalProgress,
    choose_progress,
)


def on_a_terminal(after_s: float, seconds: float, total: int | None) -> str:
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as stream:
        progress = choose_progress(stream, after_s=after_s)
        assert isinstance(progress, TerminalProgress)
        with progress.stage("reading", total, "rows") as stage:
            stage.advance(3)
            time.sleep(seconds)
            stage.advance(2)
        stream.flush()
        os.set_blocking(reader, False)
        try:
            text = os.read(reader, 1 << 16).decode()
        except BlockingIOError:
            text = ""
    os.close(reader)
    return text


def test_a_short_stage_shows_nothing_on_a_terminal() -> None:
    assert on_a_terminal(after_s=5.0, seconds=0.0, total=5) == ""


@pytest.mark.parametrize("total", [5, None])
def test_a_long_stage_shows_a_bar_that_ends_complete(total: int | None) -> None:
    text = on_a_terminal(after_s=0.05, seconds=0.4, total=total)
    assert "reading" in text
    assert "5/5" in text
    assert "rows" in text


def test_two_stages_at_once_share_one_terminal() -> None:
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as stream:
        progress = TerminalProgress(stream, after_s=0.0)
        with progress.stage("outer", 2), progress.stage("inner", 1) as inner:
            time.sleep(0.2)
            inner.advance()
        text = os.read(reader, 1 << 16).decode()
    os.close(reader)
    assert "outer" in text
    assert "inner" in text


def test_in_a_pipe_a_long_stage_is_one_plain_line() -> None:
    out = io.StringIO()
    progress = choose_progress(out, after_s=0.0)
    with progress.stage("reading", 2_000, "rows") as stage:
        stage.advance(2_000)
    assert out.getvalue().startswith("reading: 2,000 rows in 0.")
    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue()


def test_in_a_pipe_a_short_stage_is_not_mentioned() -> None:
    out = io.StringIO()
    with choose_progress(out).stage("quick"):
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
        choose_progress(out, quiet=True),
    ):
        assert isinstance(progress, Progress)
        assert isinstance(progress.stage("x"), Stage)
    assert isinstance(choose_progress(out, quiet=True), SilentProgress)
