"""The registry as the server reads it: what is said of it never shows its password."""

from __future__ import annotations

from pathlib import Path

import pytest
from feast.repo_config import RepoConfig
from sqlalchemy.exc import OperationalError

from mlflow_core.config import FixedClock
from mlflow_core.errors import RegistryError
from mlflow_core.feast.transaction import registry_errors
from mlflow_core.online.sqlite import SqliteBackend
from mlflow_core.serve.features import Features
from mlflow_core.serve.registry import RegistryReader

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
