"""Logging set-up: the standard library's logging, as text for people or as one JSON object a line.

Rooms log through :func:`get_logger` and pass facts as ``extra={...}``; only a process's entry point calls
:func:`configure_logging`. The root logger and other libraries' loggers are left alone. Secret values are
replaced in the finished line, so that they are caught wherever they came from, tracebacks included.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, TextIO

ROOT: Final = "mlflow_core"
HIDDEN: Final = "***"
_SHORT: Final = 4
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def get_logger(name: str) -> logging.Logger:
    """The logger of a module.

    Args:
        name: The module's ``__name__``, or a room's name such as ``engine``.

    Example:
        >>> get_logger("engine").name
        'mlflow_core.engine'
    """
    return logging.getLogger(name if name.partition(".")[0] == ROOT else f"{ROOT}.{name}")


def configure_logging(
    verbosity: int = 0,
    *,
    json_lines: bool = False,
    stream: TextIO | None = None,
    redact: Iterable[str] = (),
) -> logging.Handler:
    """Send this package's logs to one stream. Called again, it replaces what it set up before.

    Args:
        verbosity: -1 errors, 0 warnings, 1 information (``-v``), 2 or more everything (``-vv``).
        json_lines: One JSON object a line instead of text.
        stream: Where to; standard error if None.
        redact: Texts that must never appear, e.g. ``Settings.secret_values()``.

    Returns:
        The handler, so that a caller can take it away again.
    """
    logger = logging.getLogger(ROOT)
    for old in [handler for handler in logger.handlers if isinstance(handler.formatter, _Line)]:
        logger.removeHandler(old)
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(_JsonLine(redact) if json_lines else _TextLine(redact))
    logger.addHandler(handler)
    logger.setLevel(_level(verbosity))
    logger.propagate = False
    return handler


def json_formatter(redact: Iterable[str] = ()) -> logging.Formatter:
    """A formatter that writes a record as one JSON object, for handlers that others add to our loggers.

    Args:
        redact: Texts that must never appear.
    """
    return _JsonLine(redact)


def blotted(text: str, redact: Iterable[str]) -> str:
    """A text without what must never appear in it.

    Args:
        text: What is to be shown or kept.
        redact: Texts that must never appear, e.g. ``Settings.secret_values()``. One of fewer than four characters is
            in half of all words: it is taken out where it stands alone.

    Example:
        >>> blotted("no such host: tiger-42, user ann: cannot log in", ["tiger-42", "ann"])
        'no such host: ***, user ***: cannot log in'
    """
    # The longest first: a secret may be part of another one.
    for one in sorted({one for one in redact if one}, key=len, reverse=True):
        alone = rf"(?<!\w){re.escape(one)}(?!\w)"
        text = re.sub(alone, HIDDEN, text) if len(one) < _SHORT else text.replace(one, HIDDEN)
    return text


def _level(verbosity: int) -> int:
    if verbosity < 0:
        return logging.ERROR
    return (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)]


def _facts(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class _Line(logging.Formatter):
    def __init__(self, redact: Iterable[str]) -> None:
        super().__init__()
        self._redact = tuple(redact)

    def _hide(self, line: str) -> str:
        return blotted(line, self._redact)

    def _trace(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info else ""


class _TextLine(_Line):
    def format(self, record: logging.LogRecord) -> str:
        facts = "".join(f" {name}={value}" for name, value in _facts(record).items())
        room = record.name.removeprefix(f"{ROOT}.")
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        trace = self._trace(record)
        line = f"{at} {record.levelname.lower():<7} {room}: {record.getMessage()}{facts}"
        return self._hide(f"{line}\n{trace}" if trace else line)


class _JsonLine(_Line):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        line = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            line["exception"] = self._trace(record)
        return json.dumps(
            self._hidden(line), default=lambda value: self._hide(str(value)), ensure_ascii=False
        )

    def _hidden(self, value: object) -> object:
        # Before JSON escapes them: a secret with a quote in it would no longer match afterwards.
        if isinstance(value, str):
            return self._hide(value)
        if isinstance(value, dict):
            return {self._hide(str(name)): self._hidden(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._hidden(item) for item in value]
        return value
