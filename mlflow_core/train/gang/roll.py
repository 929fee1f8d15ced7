"""Who is there, asked again and again of a scheduler that may be silent for a while but not for long.

While the client tries to reach its scheduler again nothing is known of the workers; none is taken for lost by that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlflow_core.errors import ClusterLost
from mlflow_core.train.gang.seats import Member, members

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Roll", "gone_away"]

_SILENT_S = 60.0  # a scheduler that has not answered for so long is taken for lost


class Roll:
    """The roll of a cluster's workers.

    Args:
        client: The cluster.
    """

    def __init__(self, client: Client) -> None:
        self._client, self._answered = client, time.monotonic()

    def call(self) -> Mapping[str, Member] | None:
        """Call the roll.

        Returns:
            The workers by address; None where the scheduler does not answer now.

        Raises:
            ClusterLost: The client is closed, or the scheduler has not answered for a minute.
        """
        try:
            present = members(self._client)
        except OSError as error:
            if self._client.status in ("closing", "closed") or time.monotonic() - self._answered > _SILENT_S:
                raise gone_away() from error
            return None
        self._answered = time.monotonic()
        return present


def gone_away() -> ClusterLost:
    """The error of a cluster that does not answer any more."""
    return ClusterLost(
        "the Dask cluster went away while it trained",
        hint="Start a cluster and run it again with the same checkpoints: it goes on from the last one.",
    )
