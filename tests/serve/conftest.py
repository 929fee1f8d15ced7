"""One project for the tests of this folder, and a server of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mlflow_core.serve.app import Application, Limits
from mlflow_core.serve.run import Served, application
from tests.serve.shop import NOW, prepared, running
from tests.servers.redis import Server, redis_server


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that is applied and materialised; tests do not change it."""
    return prepared(tmp_path_factory.mktemp("served"), "served_shop")


@pytest.fixture(scope="session")
def app(project: Path) -> Application:
    limits = Limits(body_bytes=2_000_000, refresh_s=60.0)
    return application(Served(str(project), clock=NOW, limits=limits))


@pytest.fixture(scope="session")
def url(app: Application) -> Iterator[str]:
    with running(app) as address:
        yield address


@pytest.fixture(scope="session")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30.0) as client:
        yield client


@pytest.fixture(scope="module")
def redis() -> Iterator[Server]:
    """A Redis of each module's own, for some stop it."""
    with redis_server() as server:
        yield server
