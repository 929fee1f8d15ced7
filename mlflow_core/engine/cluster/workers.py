"""Which workers a cluster has, as its scheduler says when it is asked; nothing is remembered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["workers_of"]

_ANSWER_WITHIN_S: Final = 5.0


def workers_of(client: Client) -> Mapping[str, Mapping[str, Any]]:
    """Ask the scheduler what it knows of each worker, by address.

    Args:
        client: Of the cluster.

    Raises:
        OSError: The scheduler does not answer, which includes ``TimeoutError``: after five seconds.
    """
    # Not client.scheduler_info(): its answer is shared with a periodic callback that asks for no workers, and
    # sometimes that one's answer comes back, in which every worker seems lost.
    scheduler: Any = client.scheduler
    if scheduler is None:
        raise OSError("the client is closed")
    told = client.sync(scheduler.identity, n_workers=-1, callback_timeout=_ANSWER_WITHIN_S)
    workers: Mapping[str, Mapping[str, Any]] = told["workers"]
    return workers
