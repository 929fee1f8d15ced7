"""The schemas of what ``--json`` prints: JSON Schema 2020-12, a file for each command, one more for errors.

The files are the contract, written by hand and held to real output by the tests; nothing here is imported to print. A
version only grows: fields may be added, none is taken away, renamed or given another meaning without a new version.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlflow_core.errors import UnknownNameError, nearest

__all__ = ["SHARED", "VERSION", "commands_with_schema", "read_schema"]

VERSION = 1
"""The version of the schemas; each ``$id`` carries it: ``urn:mlcore:json:VERSION:NAME``."""
SHARED = ("error", "records")
"""Schemas that are no command's: of errors, and of what the others are made of."""

_FOLDER = Path(__file__).parent


def read_schema(name: str) -> dict[str, Any]:
    """Return a schema.

    Args:
        name: A command without ``mlcore``, e.g. ``runs list``, or one of ``SHARED``.

    Raises:
        UnknownNameError: There is none of that name.

    Example:
        >>> read_schema("runs list")["$id"]
        'urn:mlcore:json:1:runs.list'
    """
    file = _FOLDER / f"{name.replace(' ', '.')}.json"
    if not file.is_file():
        known = [*commands_with_schema(), *SHARED]
        raise UnknownNameError(f'there is no schema of "{name}"', hint=nearest(name, known))
    schema: dict[str, Any] = json.loads(file.read_text())
    return schema


def commands_with_schema() -> tuple[str, ...]:
    """Return the commands that have a schema, sorted."""
    names = {file.stem for file in _FOLDER.glob("*.json")} - set(SHARED)
    return tuple(sorted(name.replace(".", " ") for name in names))
