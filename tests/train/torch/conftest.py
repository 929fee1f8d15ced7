"""Two workers for the torch tests; whatever a test kills, a nanny brings back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from distributed import Client

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster


@pytest.fixture(scope="session")
def two() -> Iterator[Client]:
    with open_cluster(ClusterSettings(workers=2, memory="3GiB")) as client:
        yield client
