"""The real servers that online stores are tested against."""

from __future__ import annotations

import psycopg
import pytest

from mlflow_core.config.clock import FixedClock
from mlflow_core.online.postgres import PostgresBackend
from tests.servers.postgres import postgres_server


@pytest.fixture(scope="module")
def postgres():
    """A PostgreSQL server for the tests of one module."""
    with postgres_server() as started:
        yield started


@pytest.fixture
def postgres_admin(postgres):
    """A superuser's connection to it, and no online store in it yet."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS mlcore_online, elsewhere CASCADE")
        yield connection


@pytest.fixture
def open_postgres(postgres, postgres_admin):
    """Open a store of a project at time 1,000; the test's end closes it."""
    opened = []

    def open_store(project: str = "p", url: str = postgres.url, **options) -> PostgresBackend:
        opened.append(PostgresBackend(url, project, FixedClock(1_000), **options))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()
