"""Files of this machine that were written again with their old size and their old time of change.

What a source holds is told by the sizes and times of its files, so that copies of them, in another folder or on another
machine, are known to hold the same. What these cannot tell, the file system's own number and time of a file can, which
nobody sets back (``cp -p``, ``rsync -t``); but every copy has others. So a project remembers them by the place of a file, and
they count from when they are not those that were there before.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import orjson

from mlflow_core.sources import SeenSource
from mlflow_core.telemetry.logs import get_logger

__all__ = ["remembered"]

_log = get_logger(__name__)


def remembered(seen: Mapping[str, SeenSource], memory: Path) -> dict[str, str]:
    """Say what each source holds, and remember its files.

    Args:
        seen: Source name -> what is seen of it now.
        memory: The file in which a project remembers them; it need not be there.

    Returns:
        Source name -> its fingerprint; where files were written again unnoticed, a second one of these after a space.
    """
    known = _read(memory)
    now = {place: known.get(place) for one in seen.values() for place in one.files}
    for one in seen.values():
        for place, (version, touched) in one.files.items():
            now[place] = _followed(now[place], version, touched)
    if any(known.get(place) != entry for place, entry in now.items()):
        _write(memory, known | now)
    return {
        name: _told(one.content, [entry[2] for place in sorted(one.files) if (entry := now[place])])
        for name, one in seen.items()
    }


def _followed(before: list[str] | None, version: str, touched: str) -> list[str]:
    """What is remembered of a file: its size and time, how it was touched, and that again if it was so unnoticed."""
    if before is None or before[0] != version:
        return [version, touched, ""]
    return before if before[1] == touched else [version, touched, touched]


def _told(content: str, again: list[str]) -> str:
    if not any(again):
        return content
    return f"{content} sha256:{hashlib.sha256(orjson.dumps(again)).hexdigest()}"


def _read(memory: Path) -> dict[str, list[str] | None]:
    try:
        found = orjson.loads(memory.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, orjson.JSONDecodeError) as error:
        _log.warning(
            "%s cannot be read, so files that were written again may not be noticed: %s", memory, error
        )
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {place: entry for place, entry in entries if _is_entry(entry)}


def _is_entry(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 3 and all(isinstance(one, str) for one in entry)


def _write(memory: Path, entries: Mapping[str, list[str] | None]) -> None:
    aside = memory.with_name(f"{memory.name}.{secrets.token_hex(4)}")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(orjson.dumps(entries, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
        os.replace(aside, memory)  # noqa: PTH105 the atomic one
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        _log.warning(
            "%s cannot be written, so files that are written again may not be noticed: %s", memory, error
        )
