"""Progress of long work: bars on a terminal, plain lines in a pipe, nothing where nobody looks.

Work takes a ``Progress`` and opens a ``Stage`` for each long part of it. What takes less than two seconds
shows no bar. Nothing here knows what is being done, and no result may depend on it.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO, runtime_checkable

if TYPE_CHECKING:
    from rich.progress import Progress as RichBars
    from rich.progress import TaskID

SHOW_AFTER_S = 2.0
SAY_EVERY_S = 15.0


@runtime_checkable
class Stage(Protocol):
    """One long part of the work, open while the ``with`` block runs."""

    def advance(self, n: int = 1, *, rows: int = 0, size: int = 0) -> None:
        """Say that ``n`` more units are done; may be called from any thread.

        Args:
            n: How many units.
            rows: How many rows were in them, where the units are something else.
            size: How many bytes were in them.
        """
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
    def advance(self, n: int = 1, *, rows: int = 0, size: int = 0) -> None:  # noqa: ARG002 the protocol's
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


@dataclass
class _Count:
    """How far a stage has come."""

    name: str
    total: int | None
    unit: str
    done: int = 0
    rows: int = 0
    size: int = 0

    def add(self, n: int, rows: int, size: int) -> None:
        self.done += n
        self.rows += rows
        self.size += size

    def amounts(self) -> str:
        """Rows and bytes, as far as anybody told them."""
        told = [f"{self.rows:,} rows"] if self.rows else []
        return ", ".join(told + ([_size(self.size)] if self.size else []))

    def told(self, *, whole: bool) -> str:
        of = f" of {self.total:,}" if not whole and self.total is not None else ""
        count = f"{self.done:,}{of} {self.unit}".rstrip() if self.done or of else ""
        return ", ".join(part for part in (count, self.amounts()) if part)


def _size(size: int) -> str:
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        amount = size / 1000**power
        if amount >= 1:
            return f"{amount:.3g} {unit}" if amount < 999.5 else f"{amount:,.0f} {unit}"
    return f"{size} B"


def _span(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


class PlainProgress:
    """A line now and then while a stage runs, and one when it ends, for pipes and logs.

    Args:
        stream: Where the lines go.
        after_s: Stages shorter than this many seconds are not mentioned.
        every_s: Seconds between the lines of a stage that is still running; None for the line at its end only.
    """

    def __init__(
        self, stream: TextIO, *, after_s: float = SHOW_AFTER_S, every_s: float | None = SAY_EVERY_S
    ) -> None:
        self._stream = stream
        self._after_s = after_s
        self._every_s = every_s

    def stage(self, name: str, total: int | None = None, unit: str = "") -> Stage:
        """A stage that writes a line now and then, and one at its end."""
        return _PlainStage(self._stream, self._after_s, self._every_s, _Count(name, total, unit))


class _PlainStage:
    def __init__(self, stream: TextIO, after_s: float, every_s: float | None, count: _Count) -> None:
        self._stream, self._after_s, self._every_s = stream, after_s, every_s
        self._count = count
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._ended = threading.Event()
        self._speaker: threading.Thread | None = None

    def advance(self, n: int = 1, *, rows: int = 0, size: int = 0) -> None:
        with self._lock:
            self._count.add(n, rows, size)

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        if self._every_s is not None:
            self._speaker = threading.Thread(target=self._speak, args=(self._every_s,), daemon=True)
            self._speaker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._speaker is not None:
            self._speaker.join()  # or its line could come behind the last one
        took = time.monotonic() - self._start
        if took >= self._after_s:
            told = self._count.told(whole=kind is None or not self._count.done)
            self._say(f"{told} in {took:.1f} s{'' if kind is None else ' (stopped)'}".lstrip())

    def _speak(self, every_s: float) -> None:
        while not self._ended.wait(every_s):
            took = time.monotonic() - self._start
            with self._lock:
                told, left = self._count.told(whole=False), _left(self._count, took)
            self._say(f"{told or 'still running'} after {_span(took)}{left}")

    def _say(self, text: str) -> None:
        print(f"{self._count.name}: {text}", file=self._stream, flush=True)


def _left(count: _Count, took: float) -> str:
    if not count.total or not 0 < count.done < count.total:
        return ""
    return f", about {_span(took / count.done * (count.total - count.done))} left"


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
        return _TerminalStage(self, _Count(name, total, unit), self._after_s)

    def _show(self, count: _Count) -> TaskID:
        """Add a bar; the display lives while any bar does, because a terminal has room for one."""
        with self._lock:
            if self._bars is None:
                self._bars = _bars(self._stream)
                self._bars.start()
            self._shown += 1
            return self._bars.add_task(
                count.name, total=count.total, completed=count.done, unit=count.unit, amounts=count.amounts()
            )

    def _advance(self, bar: TaskID, count: _Count) -> None:
        with self._lock:
            if self._bars is not None:
                self._bars.update(bar, completed=count.done, amounts=count.amounts())

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
    def __init__(self, owner: TerminalProgress, count: _Count, after_s: float) -> None:
        self._owner, self._count = owner, count
        self._bar: TaskID | None = None
        self._open = True
        self._lock = threading.Lock()
        self._timer = threading.Timer(after_s, self._appear)
        self._timer.daemon = True

    def advance(self, n: int = 1, *, rows: int = 0, size: int = 0) -> None:
        with self._lock:
            self._count.add(n, rows, size)
            if self._bar is not None:
                self._owner._advance(self._bar, self._count)

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
                self._bar = self._owner._show(self._count)


def _bars(stream: TextIO) -> RichBars:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    return Bars(
        SpinnerColumn(finished_text="+"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]} {task.fields[amounts]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=False),
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
