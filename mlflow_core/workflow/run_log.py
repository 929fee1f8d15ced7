"""A run's log: what its driver and its steps said, one JSON object a line, readable while it runs.

It lies in a file of its own beside the project's other working files; when the run has ended it is kept as the run's
artifact ``log``. A run that is resumed goes on writing to the same file.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

from mlflow_core.telemetry.logs import ROOT, json_formatter

__all__ = ["LOG", "log_file", "logging_to", "step_named"]

LOG = "log"
"""The name of a run's artifact that holds its log."""

_STEP: ContextVar[str] = ContextVar("step", default="")


def log_file(root: Path, run_id: str) -> Path:
    """The file that a run's log is written to on the machine of its driver.

    Args:
        root: The project's folder.
        run_id: The run's whole id.
    """
    return root / ".mlcore" / "logs" / f"{run_id}.jsonl"


@contextmanager
def logging_to(path: Path, *, redact: Iterable[str] = ()) -> Iterator[None]:
    """Write what this package logs, and every warning, to a file for the time of a ``with`` block.

    Args:
        path: The file; what is in it stays, new lines come after it.
        redact: Texts that must never appear.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(json_formatter(redact))
    handler.addFilter(_name_the_step)
    logger = logging.getLogger(ROOT)
    with closing(handler), _listening(logger, handler), _warnings_too(logger):
        yield


@contextmanager
def step_named(name: str) -> Iterator[None]:
    """Put a step's name on every line that this thread logs in a ``with`` block."""
    token = _STEP.set(name)
    try:
        yield
    finally:
        _STEP.reset(token)


@contextmanager
def _listening(logger: logging.Logger, handler: logging.Handler) -> Iterator[None]:
    """Hear information too, while those who listen already hear what they did before."""
    level, others = logger.level, {one: one.level for one in logger.handlers}
    for one in others:
        one.setLevel(max(one.level, logger.getEffectiveLevel()))
    logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        for one, its_level in others.items():
            one.setLevel(its_level)


@contextmanager
def _warnings_too(logger: logging.Logger) -> Iterator[None]:
    show = warnings.showwarning

    def shown(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        logger.info("%s: %s", category.__name__, message, extra={"place": f"{filename}:{lineno}"})
        show(message, category, filename, lineno, file, line)

    warnings.showwarning = shown
    try:
        yield
    finally:
        warnings.showwarning = show


def _name_the_step(record: Any) -> bool:
    if name := _STEP.get():
        record.step = name
    return True
