"""How far a view has come is kept beside its rows, on every backend, and lost with them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlflow_core.config.clock import FixedClock
from mlflow_core.errors import StoreError
from mlflow_core.online.backend import OnlineBackend, OnlineTable
from mlflow_core.online.postgres import PostgresBackend
from mlflow_core.online.reached import Reached, note_reached, read_reached
from mlflow_core.online.redis.backend import RedisBackend
from mlflow_core.online.sqlite import SqliteBackend
from tests.servers.online import BACKENDS, online_section

OLD, NEW = b"schema-A", b"schema-B"
VIEW = OnlineTable("v", ("carrier",))
NOON = Reached(43_200_000_000, "sha256:of the view", ("part one", "part two"))


@pytest.fixture(scope="module", params=BACKENDS)
def place(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    with online_section(request.param) as section:
        yield request.param, section.get("connection", "")


@pytest.fixture
def backend(place, tmp_path, request) -> Iterator[OnlineBackend]:
    kind, url = place
    project, clock = f"p{abs(hash(request.node.name)) % 10**6}", FixedClock(1_000)
    opened = (
        SqliteBackend(tmp_path / "online.db", project, clock)
        if kind == "sqlite"
        else RedisBackend(url, project, clock)
        if kind == "redis"
        else PostgresBackend(url, project, clock)
    )
    yield opened
    opened.close()


def test_what_was_noted_last_is_read_whatever_it_says(backend):
    assert read_reached(backend, VIEW, OLD) is None
    for reached in (
        NOON,
        Reached(None, NOON.fingerprint),
        Reached(1, "another"),
        Reached(1, "another"),
        NOON,
    ):
        note_reached(backend, VIEW, OLD, reached)
        assert read_reached(backend, VIEW, OLD) == reached


def test_another_definition_does_not_know_it_and_an_old_one_cannot_note_any_more(backend):
    note_reached(backend, VIEW, OLD, NOON)
    backend.declare(VIEW, NEW)

    assert read_reached(backend, VIEW, NEW) is None
    with pytest.raises(StoreError):
        note_reached(backend, VIEW, OLD, NOON)
    note_reached(backend, VIEW, NEW, NOON)
    assert read_reached(backend, VIEW, NEW) == NOON


def test_it_is_the_views_own_and_goes_with_it(backend):
    other, without_keys = OnlineTable("w", ("carrier",)), OnlineTable("all", ())
    for table in (VIEW, other, without_keys):
        note_reached(backend, table, OLD, Reached(5, table.view))
    backend.drop(["v"])

    assert read_reached(backend, VIEW, OLD) is None
    assert read_reached(backend, other, OLD) == Reached(5, "w")
    assert read_reached(backend, without_keys, OLD) == Reached(5, "all")
