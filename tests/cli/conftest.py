"""What tests of verbs share: a project that only records, and the store with what it recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_core.config import Principal, SystemClock
from mlflow_core.metadata import MetadataStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of a project without declarations."""
    (tmp_path / "mlcore.toml").write_text('[project]\nname = "quiet"\n')
    return tmp_path


@pytest.fixture
def store(root: Path) -> Iterator[MetadataStore]:
    """What the project's verbs read."""
    url = f"sqlite:///{root / '.mlcore' / 'metadata.db'}"
    with MetadataStore(url, SystemClock(), Principal("ops", "option"), project="quiet") as opened:
        yield opened
