"""In what two outputs of a step differ: files of folders, and values inside JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from mlflow_core.artifacts import ArtifactStore, TreeFile
from mlflow_core.errors import ArtifactError

__all__ = ["how_outputs_differ"]

_SHOWN = 8
_READ_BYTES = 4 << 20


def how_outputs_differ(artifacts: ArtifactStore, before: str, after: str) -> tuple[str, ...]:
    """Say where two outputs differ.

    Args:
        artifacts: Where they are.
        before: Digest of one.
        after: Digest of the other.

    Returns:
        One line for each place, at most eight.
    """
    if before == after:
        return ()
    try:
        lines = list(_differing(artifacts, before, after))
    except ArtifactError as error:
        return (str(error),)
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return (*lines[:_SHOWN], *more)


def _differing(artifacts: ArtifactStore, before: str, after: str) -> Iterator[str]:
    one, other = _files(artifacts, before), _files(artifacts, after)
    if one is None or other is None:
        yield from _values("", _json(artifacts, before), _json(artifacts, after))
        return
    for path in sorted({*one, *other}):
        if path not in one or path not in other:
            yield f"{path} is {'new' if path in other else 'gone'}"
        elif one[path].digest != other[path].digest:
            yield from _in_file(artifacts, one[path], other[path])


def _in_file(artifacts: ArtifactStore, one: TreeFile, other: TreeFile) -> Iterator[str]:
    if one.path.endswith(".json") and max(one.size, other.size) <= _READ_BYTES:
        for line in _values("", _json(artifacts, one.digest), _json(artifacts, other.digest)):
            yield f"{one.path}: {line}"
    else:
        size = "" if one.size == other.size else f", {one.size:,} -> {other.size:,} bytes"
        yield f"{one.path}: other bytes{size}"


def _values(name: str, before: Any, after: Any) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            yield from _values(f"{name}.{key}" if name else key, before.get(key), after.get(key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after, strict=True)):
            yield from _values(f"{name}[{number}]", *pair)
    else:
        yield f"{name or 'value'} {_short(before)} -> {_short(after)}"


def _short(value: Any) -> str:
    text = orjson.dumps(value, default=str).decode()
    return text if len(text) <= 40 else f"{text[:37]}..."


def _files(artifacts: ArtifactStore, digest: str) -> dict[str, TreeFile] | None:
    """The files of a folder by path; None for a single file."""
    artifacts.about(digest)  # raises where it is gone
    try:
        return {file.path: file for file in artifacts.files_of(digest)}
    except ArtifactError:
        return None


def _json(artifacts: ArtifactStore, digest: str) -> Any:
    """The value in a file, or the file's digest where it holds none."""
    try:
        return orjson.loads(artifacts.read_bytes(digest))
    except orjson.JSONDecodeError:
        return digest
