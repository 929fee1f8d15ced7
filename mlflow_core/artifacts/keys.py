"""Where in a place an artifact lies: keys of blobs and of folders' manifests by digest, and back."""

from __future__ import annotations

from mlflow_core.artifacts.place import Entry

__all__ = ["blob_key", "digest_at", "tree_key"]


def blob_key(digest: str) -> str:
    """The key of a file's bytes.

    Example:
        >>> blob_key("sha256:ab12")
        'blobs/sha256/ab/ab12'
    """
    return _key_in("blobs", digest)


def tree_key(digest: str) -> str:
    """The key of a folder's manifest."""
    return _key_in("trees", digest)


def digest_at(entry: Entry) -> str:
    """The digest of what lies there."""
    return f"sha256:{entry.key.rpartition('/')[2]}"


def _key_in(part: str, digest: str) -> str:
    hexed = digest.removeprefix("sha256:")
    return f"{part}/sha256/{hexed[:2]}/{hexed}"
