"""The shop whose visits drift, trained once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.workflow import retail
from tests.workflow.scheduling import now_us

HOUR = 3_600_000_000


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop after its first training."""
    root = retail.shop(tmp_path_factory.mktemp("trained") / "shop")
    retail.train(root)
    return root


@pytest.fixture
def shop(trained: Path, tmp_path: Path) -> Path:
    """A copy of it whose schedule is in force."""
    root = tmp_path / "shop"
    shutil.copytree(trained, root)
    retail.apply(root, now_us() - HOUR)
    return root
