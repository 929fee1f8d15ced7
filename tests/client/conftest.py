"""A server of a small real project for the clients to call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_core.serve.run import Served, application
from tests.serve.shop import NOW, prepared, running, train_model


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = prepared(tmp_path_factory.mktemp("called"), "called_shop")
    train_model(root)
    return root


@pytest.fixture(scope="session")
def url(project: Path) -> Iterator[str]:
    with running(application(Served(str(project), clock=NOW))) as address:
        yield address
