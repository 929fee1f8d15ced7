"""Redis under the contract of all online backends: one server, and a cluster of three."""

from __future__ import annotations

import pytest

from mlflow_core.online.redis.backend import RedisBackend
from mlflow_core.testing.online_contract import OnlineBackendContract, OpenBackend
from tests.servers.redis import Cluster, Server, redis_cluster, redis_server


@pytest.fixture(scope="module")
def server() -> Server:
    with redis_server() as started:
        yield started


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    with redis_cluster() as started:
        yield started


@pytest.fixture
def opened():
    opened = []
    yield opened
    for backend in opened:
        backend.close()


class TestRedisBackend(OnlineBackendContract):
    @pytest.fixture
    def open_backend(self, server, opened) -> OpenBackend:
        server.flush()

        def open_backend(project, clock):
            opened.append(RedisBackend(server.url, project, clock))
            return opened[-1]

        return open_backend


class TestRedisBackendOnACluster(OnlineBackendContract):
    @pytest.fixture
    def open_backend(self, cluster, opened) -> OpenBackend:
        cluster.flush()

        def open_backend(project, clock):
            opened.append(RedisBackend(cluster.url, project, clock))
            return opened[-1]

        return open_backend
