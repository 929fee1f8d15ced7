"""The registry as the server reads it: what is said of it never shows its password."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy
from feast.protos.feast.core.FeatureService_pb2 import FeatureService
from feast.repo_config import RepoConfig
from sqlalchemy.exc import OperationalError

from mlflow_core.config import FixedClock
from mlflow_core.errors import RegistryError
from mlflow_core.feast.registry import read_config
from mlflow_core.feast.transaction import registry_errors
from mlflow_core.online.form import Packed
from mlflow_core.online.sqlite import SqliteBackend
from mlflow_core.serve import catalogue
from mlflow_core.serve.features import Features
from mlflow_core.serve.registry import RegistryReader
from tests.serve.shop import make_project, mlcore

# Nobody listens on port 1.
URL = "postgresql+psycopg://reader:open-sesame@127.0.0.1:1/registry"


def test_a_registry_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path) -> None:
    config = RepoConfig(
        project="shop", provider="local", registry={"registry_type": "sql", "path": URL}, repo_path=tmp_path
    )
    features = Features(
        RegistryReader(config), SqliteBackend(tmp_path / "online.db", "shop"), FixedClock(1_000)
    )
    try:
        with pytest.raises(RegistryError, match=r"reader:\*\*\*@127\.0\.0\.1:1/registry") as told:
            features.refresh()
    finally:
        features.close()
    # What /readyz shows to everybody.
    assert features.registry_problem is not None
    assert "open-sesame" not in f"{told.value} {features.registry_problem}"


def test_a_database_error_of_a_registry_is_told_without_its_password() -> None:
    with pytest.raises(RegistryError) as told, registry_errors(URL):
        raise OperationalError("SELECT 1", {}, Exception("too many clients"))
    assert "too many clients" in str(told.value)
    assert "open-sesame" not in str(told.value)


@pytest.fixture
def read_twice(tmp_path: Path) -> Iterator[tuple[Path, RegistryReader]]:
    """An applied project whose registry can be written while it is read, and its reader."""
    root = make_project(tmp_path, "twice_shop")
    assert mlcore(root, "apply") == 0
    database = root / "twice_shop" / "data" / "registry.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    reader = RegistryReader(read_config(root / "twice_shop"))
    yield database, reader
    reader.close()


def test_what_is_read_is_of_one_moment_though_an_apply_comes_in_between(
    read_twice: tuple[Path, RegistryReader],
) -> None:
    database, reader = read_twice
    before, changed = reader.read(), []

    def apply() -> None:
        if not changed:
            with closing(sqlite3.connect(database)) as other, other:
                for table in ("feature_services", "feature_views", "on_demand_feature_views"):
                    changed.append(other.execute(f"DELETE FROM {table}").rowcount)

    assert reader._engine is not None
    sqlalchemy.event.listen(reader._engine, "after_cursor_execute", _after_a_select(apply))
    during = reader.read()

    assert all(changed)
    assert during.digest == before.digest
    assert reader.read().services == {}


def _after_a_select(act: Callable[[], None]) -> Callable[..., None]:
    def called(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith("SELECT"):
            act()

    return called


def test_any_fault_of_one_service_leaves_the_others_and_is_shown_and_logged(
    read_twice: tuple[Path, RegistryReader], caplog: pytest.LogCaptureFixture
) -> None:
    _, reader = read_twice
    snapshot = reader.read()

    class Surprising(dict):  # type: ignore[type-arg]
        def get(self, name: str, *default: object) -> object:
            if name == "spending":
                raise KeyError("no such thing")
            return super().get(name, *default)

    views = Surprising({**snapshot.views})
    services = {**snapshot.services, "profiles": FeatureService(spec=snapshot.services["shop"].spec)}
    kept = [one for one in services["profiles"].spec.features if one.feature_view_name == "profile"]
    del services["profiles"].spec.features[:]
    services["profiles"].spec.features.extend(kept)
    with caplog.at_level("ERROR"):
        compiled = catalogue.compile_catalogue(
            replace(snapshot, services=services, views=views), form=Packed()
        )

    assert list(compiled.services) == ["profiles"]
    assert sorted(compiled.problems) == ["plain", "shop"]
    assert "KeyError" in compiled.problems["plain"]
    assert any(record.exc_info for record in caplog.records)
