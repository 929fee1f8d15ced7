"""A small cluster for the tests that need one: two real worker processes."""

from __future__ import annotations

import pytest

from mlflow_core.config.settings import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster


@pytest.fixture(scope="module")
def client():
    with open_cluster(ClusterSettings(workers=2, memory="1GiB")) as client:
        yield client
