"""Pieces of work on a cluster that fail, and on one that goes away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client

from mlflow_core.errors import ClusterLost
from mlflow_core.train.data.spread import spread
from tests.lost import lost_client


@pytest.fixture
def gone() -> Iterator[Client]:
    with lost_client() as client:
        yield client


def test_an_error_of_a_file_stays_what_it_is(client: Client, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        spread(Path.read_bytes, [tmp_path / "nowhere"], client)


@pytest.mark.chaos
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # its connections, lost on purpose
def test_a_scheduler_that_is_gone_is_one_clear_error(gone: Client) -> None:
    with pytest.raises(ClusterLost, match="went away while workers read the training set"):
        spread(abs, [-1], gone)


@pytest.mark.chaos
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_client_that_has_given_up_is_one_clear_error(gone: Client) -> None:
    while gone.status != "closed":
        time.sleep(0.01)

    with pytest.raises(ClusterLost, match="went away while workers read the training set"):
        spread(abs, [-1], gone)
