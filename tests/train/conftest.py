"""What several tests of training need: a cluster of two processes, and places where checkpoints may be."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from distributed import Client, LocalCluster

from tests.train import shelved


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(params=["folder", "shelved", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    """A folder, an address that other processes reach, and one that is in this process, as buckets are in no folder."""
    if request.param == "folder":
        yield tmp_path / "kept"
    elif request.param == "shelved":
        shelved.register()
        yield f"shelved://{tmp_path}/kept"
    else:
        name = f"memory://{uuid.uuid4().hex}"
        yield f"{name}/kept"
        store = fsspec.filesystem("memory")
        if store.exists(name):
            store.rm(name, recursive=True)
