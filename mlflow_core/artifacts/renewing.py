"""How old what is stored counts: what is stored or found again is young again, so that a collection leaves it.

A collection looks at an object's date once more before it removes it; whoever comes to need an object therefore dates it
first and looks whether it is there afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from mlflow_core.artifacts.digest import digest_stream
from mlflow_core.artifacts.place import Place

__all__ = ["renew", "stored_again"]


def stored_again(place: Place, key: str, size: int, digest: str) -> bool:
    """Say whether these bytes are stored already, and make them as young as if they were stored now.

    Args:
        place: Where.
        key: Under which key.
        size: How many bytes.
        digest: What they are.

    Returns:
        False also where they have just been collected, or are another user's, whose date is theirs to set: they are to
        be stored anew.
    """
    entry = place.entry(key)
    if entry is None or entry.size != size:
        return False
    try:
        place.touch(key)
        with place.open(key) as stream:
            return digest_stream(stream) == digest
    except (FileNotFoundError, PermissionError):
        return False


def renew(place: Place, keys: Iterable[str]) -> None:
    """Make objects young where that costs no copy: on a disk.

    Args:
        place: Where they lie.
        keys: Their keys; another user's file keeps its date.

    Raises:
        FileNotFoundError: One is gone.
    """
    for key in keys:
        if place.local(key) is not None:
            with suppress(PermissionError):
                place.touch(key)
