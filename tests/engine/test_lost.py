"""Which errors mean that the cluster is gone, on a client that runs and on one that has lost its scheduler."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from distributed import CancelledError, Client
from distributed.client import ClosedClientError
from distributed.comm.core import CommClosedError

from mlflow_core.engine.cluster.lost import told_if_lost, went_away
from mlflow_core.errors import ClusterLost, SourceError


def client_that_is(status: str) -> Client:
    return cast(Client, SimpleNamespace(status=status))


@pytest.mark.parametrize(
    "error", [CancelledError(), ClosedClientError("closed"), CommClosedError("in <TCP>")]
)
@pytest.mark.parametrize("status", ["running", "connecting", "closed"])
def test_dasks_own_words_mean_it_whatever_the_client_is_by_now(error: Exception, status: str) -> None:
    assert went_away(client_that_is(status), error)


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file", "/data/x"), TimeoutError("connect")])
def test_an_error_of_the_system_means_it_where_the_client_has_lost_its_scheduler(error: Exception) -> None:
    assert not went_away(client_that_is("running"), error)
    assert went_away(client_that_is("connecting"), error)


@pytest.mark.parametrize("error", [SourceError("cannot be read"), ZeroDivisionError()])
def test_what_the_work_itself_raised_never_means_it(error: Exception) -> None:
    assert not went_away(client_that_is("closed"), error)


def test_one_clear_error_is_raised_and_every_other_stays_what_it_is() -> None:
    lost = ClusterLost("the Dask cluster went away")

    with (
        pytest.raises(ClusterLost, match="went away") as raised,
        told_if_lost(client_that_is("closed"), lost),
    ):
        raise CommClosedError("in <TCP>")
    assert isinstance(raised.value.__cause__, CommClosedError)
    with pytest.raises(FileNotFoundError), told_if_lost(client_that_is("running"), lost):
        raise FileNotFoundError(2, "No such file", "/data/x")
