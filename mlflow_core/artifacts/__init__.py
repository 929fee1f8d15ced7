"""A content-addressed store on fsspec: datasets, caches, models and reports, named by their SHA-256.

Knows bytes and folders; what they mean, and who still needs them, is the caller's to say.
"""

from mlflow_core.artifacts.collect import GcReport
from mlflow_core.artifacts.digest import Artifact, digest_bytes, digest_file, digest_of
from mlflow_core.artifacts.store import ArtifactStore
from mlflow_core.artifacts.tree import TreeFile

__all__ = ["Artifact", "ArtifactStore", "GcReport", "TreeFile", "digest_bytes", "digest_file", "digest_of"]
