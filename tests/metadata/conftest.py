"""A store on a real SQLite file and on a real PostgreSQL server, on a clock that the test turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text

from mlflow_core.config import Principal
from mlflow_core.metadata import MetadataStore, upgrade
from tests.servers.postgres import server

NOON = 1_384_518_600_000_000  # 2013-11-15T12:30Z
_NUMBERS = count()

Raw = Callable[..., None]
"""Changes rows behind the store's back."""


@dataclass
class HandClock:
    """A clock that moves when it is told to."""

    us: int = NOON

    def now_us(self) -> int:
        return self.us


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a server, which has a database "template_metadata" with our tables in it."""
    with server() as address:
        told(address, "CREATE DATABASE template_metadata")
        upgrade(database_at(address, "template_metadata"))
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which database a test runs on."""
    return str(request.param)


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a store is, or will be on SQLite."""
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path}/.mlcore/metadata.db"
        return
    address: str = request.getfixturevalue("postgres")
    with new_database(address, "template_metadata") as made:
        yield made


@pytest.fixture
def empty_url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where there are no tables yet."""
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path}/empty/metadata.db"
        return
    address: str = request.getfixturevalue("postgres")
    with new_database(address, "template0") as made:
        yield made


@pytest.fixture
def store(url: str, clock: HandClock) -> Iterator[MetadataStore]:
    with MetadataStore(url, clock, Principal("ada", "token"), project="flights") as opened:
        yield opened


@pytest.fixture
def raw(url: str) -> Raw:
    """Runs statements on the store's database, each one at once."""
    return lambda *statements: told(url, *statements)


def told(url: str, *statements: str) -> None:
    """Run statements outside of any transaction."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))


def database_at(address: str, name: str) -> str:
    """The address of another database of the same server."""
    return address.replace("/postgres?", f"/{name}?")


@contextmanager
def new_database(address: str, template: str) -> Iterator[str]:
    """A database of its own on a server, gone with the block."""
    name = f"test_{next(_NUMBERS)}"
    told(address, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield database_at(address, name)
    finally:
        told(address, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def refusing(url: str, table: str, why: str) -> Iterator[None]:
    """Let the database itself refuse every new row of a table."""
    if url.startswith("sqlite"):
        told(url, f"CREATE TRIGGER refuse BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, '{why}'); END")
    else:
        raises = f"BEGIN RAISE EXCEPTION '{why}'; END"
        told(
            url,
            f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {raises} $$",
            f"CREATE TRIGGER refuse BEFORE INSERT ON {table} EXECUTE FUNCTION refuse()",
        )
    try:
        yield
    finally:
        on = "" if url.startswith("sqlite") else f" ON {table}"
        told(url, f"DROP TRIGGER refuse{on}", *(["DROP FUNCTION refuse()"] if on else []))
