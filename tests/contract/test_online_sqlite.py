"""SQLite under the contract of all online backends."""

from __future__ import annotations

import pytest

from mlflow_core.online.sqlite import SqliteBackend
from mlflow_core.testing.online_contract import OnlineBackendContract, OpenBackend


class TestSqliteBackend(OnlineBackendContract):
    @pytest.fixture
    def open_backend(self, tmp_path) -> OpenBackend:
        opened = []

        def open_backend(project, clock):
            opened.append(SqliteBackend(tmp_path / "deep" / "online.db", project, clock))
            return opened[-1]

        yield open_backend
        for backend in opened:
            backend.close()
