"""PostgreSQL under the contract of all online backends."""

from __future__ import annotations

import itertools

import pytest

from mlflow_core.online.postgres import PostgresBackend
from mlflow_core.testing.online_contract import OnlineBackendContract, OpenBackend
from tests.servers.postgres import postgres_server


@pytest.fixture(scope="module")
def url():
    with postgres_server() as server:
        yield server.url


_numbers = itertools.count()


class TestPostgresBackend(OnlineBackendContract):
    @pytest.fixture
    def open_backend(self, url) -> OpenBackend:
        opened = []
        schema = f"online_{next(_numbers)}"

        def open_backend(project, clock):
            opened.append(PostgresBackend(url, project, clock, schema=schema))
            return opened[-1]

        yield open_backend
        for backend in opened:
            backend.close()
