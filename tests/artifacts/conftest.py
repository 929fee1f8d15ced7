"""Artifact stores of each kind, and what is put into them."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from mlflow_core.artifacts import ArtifactStore


@pytest.fixture(params=["folder", "file url", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    locations = {
        "folder": str(tmp_path / "store"),
        "file url": f"file://{tmp_path}/store",
        "memory": f"memory://{uuid.uuid4().hex}/store",
    }
    return ArtifactStore(locations[request.param])


@pytest.fixture
def local(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))
