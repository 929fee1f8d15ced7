"""The process boundary: every way in which a command can end becomes one line and one exit code.

This is the one place that catches everything. A traceback is shown with ``-v`` only, and always logged.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import orjson
import typer

from mlflow_core.cli.completion import VARIABLE
from mlflow_core.cli.root import app, hoisted
from mlflow_core.errors import ExitCode, MlcoreError, disk_is_full
from mlflow_core.telemetry.logs import blotted, get_logger

__all__ = ["INTERRUPTED", "run"]

INTERRUPTED = 130
_ASKED_WRONGLY = (400, 404, 422)

_log = get_logger("cli")

Hide = Callable[[str], str]
"""Takes a text, and returns it without any secret."""


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: What was typed after ``mlcore``.

    Returns:
        The exit code: one of ``ExitCode``, or 130 after Ctrl-C.
    """
    if VARIABLE in os.environ:  # a shell asks for words: typer answers and ends the process
        from typer.completion import completion_init  # type: ignore[attr-defined]  # typer has no other door

        completion_init()
    words = hoisted(arguments)
    globals_ = words[: len(words) - _verb_and_rest(words)]
    as_json, verbose = "--json" in globals_, any(word in ("-v", "-vv", "--verbose") for word in globals_)
    secret: list[str] = []  # filled when the settings are read, and when the sources are
    hide = partial(blotted, redact=secret)
    try:
        code = typer.main.get_command(app).main(words, prog_name="mlcore", standalone_mode=False, obj=secret)
        sys.stdout.flush()
        if code == INTERRUPTED:  # typer has turned Ctrl-C into its exit code
            return _interrupted()
        return code if isinstance(code, int) else ExitCode.OK
    except MlcoreError as error:
        # What a server refuses because of what was asked is, on a command line, wrong usage.
        code = ExitCode.USAGE if getattr(error, "status", None) in _ASKED_WRONGLY else error.exit_code
        _say(error, code, as_json, verbose, hide)
        return code
    except typer.Exit as ended:
        return ended.exit_code
    except typer.TyperException as error:
        return _usage(error, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except BrokenPipeError:
        # Whoever read our output has gone; Python would say so again while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:
        _log.debug("unexpected error", exc_info=True)
        _unexpected(error, as_json, verbose, hide)
        return ExitCode.FAILED


def _interrupted() -> int:
    sys.stderr.write("interrupted\n")
    return INTERRUPTED


def _verb_and_rest(words: Sequence[str]) -> int:
    for index, word in enumerate(words):
        if not word.startswith("-") and (index == 0 or words[index - 1] not in ("--root", "--env", "--as")):
            return len(words) - index
    return 0


def _say(error: MlcoreError, code: int, as_json: bool, verbose: bool, hide: Hide) -> None:
    if verbose:
        sys.stderr.write(hide("".join(traceback.format_exception(error))))
    if as_json:
        _json_line(type(error).__name__, str(error), code, error, hide)
    else:
        sys.stderr.write(hide(f"error: {error}\n"))


def _usage(error: typer.TyperException, as_json: bool) -> int:
    if as_json:
        _json_line("UsageError", error.format_message(), error.exit_code, None, str)
    elif type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{error.format_message()}\n")
    else:
        context: Any = getattr(error, "ctx", None)
        hint = f" Try: {context.command_path} --help" if context is not None else ""
        sys.stderr.write(f"error: {error.format_message()}{hint}\n")
    return error.exit_code


def _unexpected(error: Exception, as_json: bool, verbose: bool, hide: Hide) -> None:
    if verbose:
        sys.stderr.write(hide("".join(traceback.format_exception(error))))
    if disk_is_full(error):
        full = MlcoreError(
            "the disk is full",
            place=str(getattr(error, "filename", None) or "") or None,
            hint="Free some space, then try again; what was written half is taken away.",
        )
        _say(full, ExitCode.FAILED, as_json, verbose=False, hide=hide)
        return
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        refused = MlcoreError(
            f"may not be used: {error.strerror}",
            place=str(error.filename or "") or None,
            hint="Look at the permissions of the file and its folder, and at how its disk is mounted.",
        )
        _say(refused, ExitCode.FAILED, as_json, verbose=False, hide=hide)
        return
    text = " ".join(str(error).split())
    shown = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if as_json:
        _json_line("UnexpectedError", shown, ExitCode.FAILED, None, hide)
    else:
        more = "" if verbose else ". Run it again with -v for more."
        sys.stderr.write(hide(f"error: unexpected {shown}{more}\n"))


def _json_line(kind: str, message: str, code: int, error: MlcoreError | None, hide: Hide) -> None:
    fields = ("what", "object", "place", "expected", "hint")
    told = {name: getattr(error, name) for name in fields} if error is not None else {}
    # Before JSON escapes them: a secret with a quote in it would no longer match afterwards.
    details = {name: None if text is None else hide(text) for name, text in told.items()}
    line = orjson.dumps(
        {"error": {"type": kind, "message": hide(message), "exit_code": int(code), **details}}
    )
    sys.stderr.write(f"{line.decode()}\n")
