"""The ends of Parquet files: what is in a file, told without reading a row.

Each footer is fetched with one read of the file's end and parsed from memory, so that a listing costs one request
a file. Its digest tells a file from another of the same size and time of change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core.errors import SourceError
from mlflow_core.sources.files import DataFile, check_unchanged, read_end
from mlflow_core.sources.part import wrong
from mlflow_core.spec import Source

__all__ = ["Footer", "read_footers", "unreadable"]

_GUESS = 64 * 1024
"""Most footers are shorter; a longer one costs a second read."""
_TRAILER = 8


@dataclass(frozen=True, slots=True)
class Footer:
    """What the end of a file says.

    Attributes:
        file: The file.
        metadata: Its schema and row groups.
        digest: Digest of the footer's bytes.
    """

    file: DataFile
    metadata: pq.FileMetaData
    digest: str


def read_footers(source: Source, files: Sequence[DataFile]) -> tuple[Footer, ...]:
    """Read the footers of a source's files, in the order given.

    Args:
        source: The source, for errors.
        files: Its files.

    Raises:
        SourceError: A file cannot be read, is no Parquet file, or has changed since it was listed.
    """

    def read(file: DataFile) -> Footer:
        try:
            return _footer(file)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise unreadable(source, file, error) from error

    with ThreadPoolExecutor(max_workers=8) as pool:
        return tuple(pool.map(read, files))


def unreadable(source: Source, file: DataFile, error: Exception) -> SourceError:
    """Make the error of a file that could not be read: that it has changed, if it has, or what Arrow says.

    Raises:
        SourceError: The file has changed since it was listed.
    """
    check_unchanged(source, file)
    reason = str(error).split("\n")[0].rstrip(".")
    damaged = isinstance(error, pa.ArrowInvalid)
    return wrong(
        source,
        f'file "{file.name}" cannot be read: {reason}',
        hint="It is truncated or no Parquet file; write it again." if damaged else None,
    )


def _footer(file: DataFile) -> Footer:
    end = read_end(file, _GUESS)
    length = int.from_bytes(end[-_TRAILER:-4], "little") + _TRAILER
    if len(end) < length <= file.size:
        end = read_end(file, length)
    metadata = pq.read_metadata(pa.BufferReader(end))
    return Footer(file, metadata, hashlib.blake2b(end[-length:], digest_size=16).hexdigest())
