"""Progress of long work: bars on a terminal, plain lines in a pipe, nothing where nobody looks.

Work takes a ``Progress`` and opens a ``Stage`` for each long part of it. What takes less than two seconds
shows no bar. Nothing here knows what is being done, and no result may depend on it.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO, runtime_checkable

if TYPE_CHECKING:
    from rich.progress import Progress as RichBars
    from rich.progress import TaskID

SHOW_AFTER_S = 2.0


@runtime_checkable
class Stage(Protocol):
    """One long part of the work, open while the ``with`` block runs."""

    def advance(self, n: int = 1) -> None:
        """Say that ``n`` more units are done; may be called from any thread."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class Progress(Protocol):
    """Whoever is told about the work's stages."""

    def stage(self, name: str, total: int | None = None, unit: str = "") -> Stage:
        """Open a stage.

        Args:
            name: What is being done, e.g. ``reading flights``.
            total: How many units it has, or None if nobody knows.
            unit: What a unit is called, e.g. ``rows``.
        """
        ...


class _SilentStage:
    def advance(self, n: int = 1) -> None:  # noqa: ARG002 the protocol's
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class SilentProgress:
    """Tells nobody: the default of every function that takes a ``Progress``."""

    def stage(self, name: str, total: int | None = None, unit: str = "") -> Stage:  # noqa: ARG002 the protocol's
        """A stage that says nothing."""
        return _SilentStage()


class PlainProgress:
    """One line when a stage ends, for pipes and logs.

    Args:
        stream: Where the lines go.
        after_s: Stages shorter than this many seconds are not mentioned.
    """

    def __init__(self, stream: TextIO, *, after_s: float = SHOW_AFTER_S) -> None:
        self._stream = stream
        self._after_s = after_s

    def stage(self, name: str, total: int | None = None, unit: str = "") -> Stage:
        """A stage that writes one line at its end."""
        return _PlainStage(self._stream, self._after_s, name, total, unit)


class _PlainStage:
    def __init__(self, stream: TextIO, after_s: float, name: str, total: int | None, unit: str) -> None:
        self._stream, self._after_s = stream, after_s
        self._name, self._total, self._unit = name, total, unit
        self._done = 0
        self._lock = threading.Lock()
        self._start = time.monotonic()

    def advance(self, n: int = 1) -> None:
        with self._lock:
            self._done += n

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        took = time.monotonic() - self._start
        if took >= self._after_s:
            of = f" of {self._total:,}" if kind and self._total is not None else ""
            count = f" {self._done:,}{of} {self._unit}".rstrip() if self._done else ""
            end = "" if kind is None else " (stopped)"
            print(f"{self._name}:{count} in {took:.1f} s{end}", file=self._stream, flush=True)


class TerminalProgress:
    """Bars that appear once a stage has run for ``after_s`` seconds, and stay, full, when it has ended.

    Args:
        stream: A terminal.
        after_s: Seconds before a stage is shown.
    """

    def __init__(self, stream: TextIO, *, after_s: float = SHOW_AFTER_S) -> None:
        self._stream = stream
        self._after_s = after_s
        self._lock = threading.RLock()
        self._bars: RichBars | None = None
        self._shown = 0

    def stage(self, name: str, total: int | None = None, unit: str = "") -> Stage:
        """A stage with a bar, or with a spinner where the total is unknown."""
        return _TerminalStage(self, name, total, unit, self._after_s)

    def _show(self, name: str, total: int | None, unit: str, done: int) -> TaskID:
        """Add a bar; the display lives while any bar does, because a terminal has room for one."""
        with self._lock:
            if self._bars is None:
                self._bars = _bars(self._stream)
                self._bars.start()
            self._shown += 1
            return self._bars.add_task(name, total=total, completed=done, unit=unit)

    def _advance(self, bar: TaskID, n: int) -> None:
        with self._lock:
            if self._bars is not None:
                self._bars.advance(bar, n)

    def _close(self, bar: TaskID, *, ended_well: bool) -> None:
        with self._lock:
            if self._bars is None:
                return
            task = self._bars.tasks[self._bars.task_ids.index(bar)]
            if ended_well and task.total is None:
                self._bars.update(bar, total=max(task.completed, 1), completed=max(task.completed, 1))
            self._bars.stop_task(bar)
            self._shown -= 1
            if self._shown == 0:
                self._bars.stop()
                self._bars = None


class _TerminalStage:
    def __init__(
        self, owner: TerminalProgress, name: str, total: int | None, unit: str, after_s: float
    ) -> None:
        self._owner, self._name, self._total, self._unit = owner, name, total, unit
        self._done = 0
        self._bar: TaskID | None = None
        self._open = True
        self._lock = threading.Lock()
        self._timer = threading.Timer(after_s, self._appear)
        self._timer.daemon = True

    def advance(self, n: int = 1) -> None:
        with self._lock:
            self._done += n
            if self._bar is not None:
                self._owner._advance(self._bar, n)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._open = False
            if self._bar is not None:
                self._owner._close(self._bar, ended_well=kind is None)

    def _appear(self) -> None:
        with self._lock:
            if self._open:  # the timer may fire while the stage closes
                self._bar = self._owner._show(self._name, self._total, self._unit, self._done)


def _bars(stream: TextIO) -> RichBars:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    return Bars(
        SpinnerColumn(finished_text="+"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        console=Console(file=stream),
    )


class ConsoleProgress:
    """The progress that fits a stream: bars on a terminal, lines in a pipe.

    Args:
        stream: Where people look; standard error if None.
        after_s: Seconds before a stage is worth mentioning.

    Example:
        >>> with ConsoleProgress().stage("reading flights", total=3, unit="files") as stage:
        ...     stage.advance(3)
    """

    def __init__(self, stream: TextIO | None = None, *, after_s: float = SHOW_AFTER_S) -> None:
        stream = stream if stream is not None else sys.stderr
        self._progress: Progress = (
            TerminalProgress(stream, after_s=after_s)
            if stream.isatty()
            else PlainProgress(stream, after_s=after_s)
        )

    def stage(self, name: str, total: int | None = None, unit: str = "") -> Stage:
        """A stage with a bar on a terminal, with one line at its end elsewhere."""
        return self._progress.stage(name, total, unit)
