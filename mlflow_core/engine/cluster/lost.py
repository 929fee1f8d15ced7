"""A cluster that went away, told from work that failed: through Dask both come back by the same calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow_core.errors import ClusterLost, MlcoreError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["check_open", "told_if_lost", "went_away"]


def check_open(client: Client) -> None:
    """Refuse a client that has given its scheduler up: it forgets tasks that it never sent, and tells nobody.

    Raises:
        ClosedClientError: It is closed.
    """
    from distributed.client import ClosedClientError

    if client.status in ("closing", "closed"):
        raise ClosedClientError(f"the client is {client.status}")


def went_away(client: Client, error: BaseException) -> bool:
    """Say whether an error means that the cluster is gone, and not that a file or the work itself failed.

    Args:
        client: Whom it was asked.
        error: What came back.
    """
    from distributed import CancelledError
    from distributed.client import ClosedClientError
    from distributed.comm.core import CommClosedError

    if isinstance(error, CancelledError | ClosedClientError | CommClosedError):
        return True  # also where the client has found the scheduler again since
    ours = isinstance(error, MlcoreError)
    return isinstance(error, OSError) and not ours and client.status != "running"


@contextmanager
def told_if_lost(client: Client, lost: ClusterLost) -> Iterator[None]:
    """Raise one clear error where the cluster goes away; every other error stays what it is.

    Args:
        client: The cluster.
        lost: The error to raise.

    Raises:
        ClusterLost: It went away.
    """
    try:
        yield
    except Exception as error:
        if went_away(client, error):
            raise lost from error
        raise
