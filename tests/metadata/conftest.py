"""A store on a real SQLite file, on a clock that the test turns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlflow_core.config import Principal
from mlflow_core.metadata import MetadataStore

NOON = 1_384_518_600_000_000  # 2013-11-15T12:30Z


@dataclass
class HandClock:
    """A clock that moves when it is told to."""

    us: int = NOON

    def now_us(self) -> int:
        return self.us


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/.mlcore/metadata.db"


@pytest.fixture
def store(url: str, clock: HandClock) -> Iterator[MetadataStore]:
    with MetadataStore(url, clock, Principal("ada", "token"), project="flights") as opened:
        yield opened
