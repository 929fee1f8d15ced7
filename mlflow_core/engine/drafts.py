"""Files and folders that are whole or not there: written under another name, renamed at the end.

What is written is the caller's business. A task that ran twice, or was killed half-way, leaves one whole file or
none; a folder that was given up cannot be written into any more.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow_core.errors import EngineError

__all__ = ["draft_folder", "write_at_once"]


@contextmanager
def draft_folder(parent: Path, name: str) -> Iterator[Path]:
    """Make a folder for the time of a ``with`` block.

    Args:
        parent: Where; it is made if need be.
        name: How the folder's name starts.

    Yields:
        The folder, an absolute path.
    """
    folder = parent.resolve() / f"{name}-{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        # Tasks that were cancelled may still be writing: under another name the folder is out of their reach.
        shutil.rmtree(folder.rename(folder.with_name(f".{folder.name}.gone")), ignore_errors=True)


def write_at_once(file: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that it is never seen half-written.

    Args:
        file: The file; one that is there is replaced.
        write: Writes the content to the path that it is given.

    Raises:
        EngineError: The file's folder is not there.
    """
    if not file.parent.is_dir():
        raise EngineError(
            f"there is no folder {file.parent}",
            expected="a folder that this process and all workers reach",
            hint="On a cluster of several machines it must be on storage that they share.",
        )
    half = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        write(half)
        half.replace(file)
    finally:
        half.unlink(missing_ok=True)
