"""A store of artifacts and the databases that use it: each run sees to it that its database is known there.

What is needed of a store only the records of all its databases tell together, and one database knows no other's.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.metadata import MetadataStore

__all__ = ["claim", "other_users"]


def claim(metadata: MetadataStore, artifacts: ArtifactStore, run_id: str) -> None:
    """Note in a store that this database keeps artifacts there, unless that is known.

    Args:
        metadata: The database.
        artifacts: The store.
        run_id: One of the database's runs.

    Raises:
        ArtifactError: The store cannot be read or written.
    """
    if not metadata.runs_of_any_project(artifacts.users.read()):
        artifacts.users.note(run_id, f"{metadata.shown_url} on {socket.gethostname()}")


def other_users(metadata: MetadataStore, artifacts: ArtifactStore) -> Mapping[str, str]:
    """Return which other databases keep artifacts in a store: what they say of themselves, by their files' names.

    Args:
        metadata: The database.
        artifacts: The store.

    Raises:
        ArtifactError: The store cannot be read.
    """
    known = artifacts.users.read()
    own = metadata.runs_of_any_project(known)
    return {name: told for name, told in known.items() if name not in own}
