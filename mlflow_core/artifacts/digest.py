"""Names of contents: ``sha256:<64 hex digits>``, and the record that ties a name to what was stored."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from mlflow_core.errors import ArtifactError

CHUNK: Final = 1 << 20
_DIGEST: Final = re.compile(r"(?:^|[:/])([0-9a-f]{64})$")


@dataclass(frozen=True)
class Artifact:
    """What was stored.

    Args:
        uri: Where its bytes are, as an fsspec url or a local path.
        digest: ``sha256:...`` of the bytes; of the manifest for a folder.
        size: Bytes; for a folder the sum of its files.
        media_type: What the bytes are; ``application/vnd.mlcore.tree+json`` for a folder.
        name: What the caller calls it. Not part of the content.
    """

    uri: str
    digest: str
    size: int
    media_type: str
    name: str


def digest_bytes(data: bytes) -> str:
    """The digest of some bytes.

    Example:
        >>> digest_bytes(b"")[:14]
        'sha256:e3b0c44'
    """
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_file(path: Path) -> str:
    """The digest of a local file.

    Raises:
        ArtifactError: The file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return digest_stream(stream)
    except OSError as error:
        raise ArtifactError(f"cannot be read: {error.strerror or error}", place=str(path)) from error


def digest_stream(stream: BinaryIO) -> str:
    """The digest of what is left in an open binary file."""
    seen = hashlib.sha256()
    for chunk in chunks(stream):
        seen.update(chunk)
    return f"sha256:{seen.hexdigest()}"


def chunks(stream: BinaryIO) -> Iterator[bytes]:
    """What is left in an open binary file, a mebibyte at a time."""
    while chunk := stream.read(CHUNK):
        yield chunk


def digest_of(uri_or_digest: str) -> str:
    """The digest inside a digest, bare hex or an artifact's uri.

    Raises:
        ArtifactError: There is none.
    """
    match = _DIGEST.search(uri_or_digest)
    if match is None:
        raise ArtifactError(
            f'"{uri_or_digest}" names no artifact',
            expected="sha256:<64 hex digits>, or the uri of an artifact",
        )
    return f"sha256:{match.group(1)}"
