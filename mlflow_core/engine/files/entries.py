"""Entries of the cache: folders of files that are whole or not there, named by what decides their content.

An entry is written aside and renamed when it is complete, so a killed writer or a full disk leaves nothing under its
name, and of two writers the first wins. What is damaged afterwards is found when the entry is looked up: sizes and
samples of its files are recorded in it. What the files mean is not known here.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
import uuid
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow_core.errors import EngineError, disk_is_full

__all__ = ["FACTS", "facts_of", "is_dead", "mark", "write_entry"]

FACTS = "entry.json"
_SAMPLES = 16
_SAMPLE_BYTES = 4_096
_MARK = re.compile(r"^\.[a-z]+\.(?P<pid>\d+)-(?P<started>\d*)\.[0-9a-f]{32}\.(?P<host>.+)$")


def facts_of(entry: Path) -> dict[str, Any] | None:
    """Look an entry up.

    Args:
        entry: Its folder.

    Returns:
        What its writer recorded; None where there is no entry, or one whose files are not what they were.
    """
    try:
        facts: dict[str, Any] = json.loads((entry / FACTS).read_bytes())
        files = facts["files"]
        whole = all(list(_signature(entry / name)) == seen for name, seen in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return facts if whole else None


def write_entry(entry: Path, fill: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
    """Write an entry, unless somebody else is faster.

    Args:
        entry: Its folder; what is there and not whole is replaced.
        fill: Writes the files to the folder that it is given, and returns what is to be recorded with them.

    Returns:
        What was recorded.

    Raises:
        EngineError: The folder cannot be written to, or its disk is full.
    """
    draft = entry.with_name(mark("draft"))
    try:
        draft.mkdir(parents=True)
        facts = dict(fill(draft))
        files = {file.name: _signature(file) for file in sorted(draft.iterdir())}
        facts |= {"files": files, "bytes": sum(size for size, _ in files.values())}
        (draft / FACTS).write_text(json.dumps(facts))
        _publish(draft, entry)
    except OSError as error:
        raise EngineError(
            f"{entry.parent} cannot be written to: {error.strerror or error}",
            object="cache",
            expected="a folder that this process and all workers reach, with room for the sources' columns",
            hint="Make room, or empty it with: mlcore cache clean" if disk_is_full(error) else None,
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return facts


def mark(what: str) -> str:
    """Return a name that nobody else has, and that tells who made it; see ``is_dead``."""
    pid = os.getpid()
    return f".{what}.{pid}-{_started(pid)}.{uuid.uuid4().hex}.{socket.gethostname()}"


def is_dead(name: str) -> bool | None:
    """Tell whether the process that made a name is gone; None where this machine cannot tell.

    Args:
        name: From ``mark``.
    """
    found = _MARK.match(name)
    if found is None or found["host"] != socket.gethostname():
        return None
    pid, then = int(found["pid"]), found["started"]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it lives, as somebody else's
    # Numbers of processes come again: in a container that was started anew it is even the same one.
    now = _started(pid)
    return then != now if then and now else False


def _started(pid: int) -> str:
    """Say when a process was started, in ticks since the machine was; empty where the system does not tell."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return told.rpartition(")")[2].split()[19]


def _publish(draft: Path, entry: Path) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            draft.rename(entry)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == _ATTEMPTS - 1:
                raise
            if facts_of(entry) is not None:
                return
            _put_away(entry)
        else:
            return


def _put_away(entry: Path) -> None:
    gone = entry.with_name(mark("gone"))
    try:
        entry.rename(gone)
    except FileNotFoundError:
        return  # another writer was at it too
    shutil.rmtree(gone, ignore_errors=True)


_ATTEMPTS = 4


def _signature(file: Path) -> tuple[int, int]:
    """Size and checksum of samples: reading gigabytes to find that nothing is wrong would cost more than the work."""
    size = file.stat().st_size
    check = 0
    with file.open("rb") as opened:
        for number in range(_SAMPLES):
            opened.seek(max(0, size - _SAMPLE_BYTES) * number // (_SAMPLES - 1))
            check = zlib.crc32(opened.read(_SAMPLE_BYTES), check)
    return size, check
