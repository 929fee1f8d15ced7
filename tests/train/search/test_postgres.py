"""A study in a PostgreSQL database: in a schema of its own, with one driver at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from mlflow_core.errors import TrainError
from mlflow_core.spec.search import Search
from mlflow_core.train.search.storage import open_storage
from tests.servers.postgres import PostgresServer, postgres_server
from tests.train.search.searched import SPACE, outcomes, search, small_set


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as started:
        yield started


def test_a_study_in_postgresql_goes_on_and_is_that_in_a_file(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    data, settings = small_set(tmp_path / "data"), Search(trials=4, space=SPACE)

    in_file = search(settings, data, tmp_path / "file")
    search(settings.model_copy(update={"trials": 2}), data, tmp_path / "part", storage=postgres.url)
    result = search(settings, data, tmp_path / "part", storage=postgres.url)

    assert outcomes(result) == outcomes(in_file)
    with psycopg.connect(postgres.url) as connection:
        rows = connection.execute(
            "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename IN ('studies', 'trials', 'alembic_version')"
        ).fetchall()
    assert rows == [("mlcore_search",)]
    other = search(settings, data, tmp_path / "other", storage=postgres.url, schema="another")
    assert outcomes(other) == outcomes(in_file)


def test_one_driver_runs_a_study_in_postgresql_at_a_time(tmp_path: Path, postgres: PostgresServer) -> None:
    with open_storage(postgres.url, "driven"):
        with (
            pytest.raises(TrainError, match='Study "driven": is being run by another process'),
            open_storage(postgres.url, "driven"),
        ):
            pass
        with open_storage(postgres.url, "another"):
            pass
    with open_storage(postgres.url, "driven"):
        pass
    with (
        pytest.raises(TrainError, match='"no schema" is not the name of a schema'),
        open_storage(postgres.url, "driven", schema="no schema"),
    ):
        pass
